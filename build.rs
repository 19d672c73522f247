//! Has the linker lead calls of libpython to the guards of src/exit_guard.rs, which says why.

use std::{env, fs};

const LIST: &str = "src/exit_guard.rs";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rustc-check-cfg=cfg(exit_unwinds)");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let unwinds = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if !unwinds || env::var_os("CARGO_FEATURE_PYTHON").is_none() {
        return;
    }
    println!("cargo:rustc-cfg=exit_unwinds");
    let list = fs::read_to_string(LIST).expect("a package has its sources");
    for line in list.lines() {
        let name = line.strip_prefix("    fn ").and_then(|rest| rest.split_once('('));
        if let Some((name, _)) = name.filter(|(name, _)| name.contains("Py")) {
            println!("cargo:rustc-link-arg-cdylib=-Wl,--wrap={name}");
        }
    }
}
