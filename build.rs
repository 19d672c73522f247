//! Has the linker lead calls of libpython to the guards of src/exit_guard.rs, which says why.

fn main() {
    println!("cargo:rustc-check-cfg=cfg(exit_unwinds)");
    #[cfg(feature = "python")]
    guard_the_exit();
}

#[cfg(feature = "python")]
fn guard_the_exit() {
    const LIST: &str = "src/exit_guard.rs";

    println!("cargo:rerun-if-changed={LIST}");
    pyo3_build_config::use_pyo3_cfgs();
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    let version = pyo3_build_config::get().version();
    if !glibc || (version.major, version.minor) >= (3, 14) {
        return;
    }
    println!("cargo:rustc-cfg=exit_unwinds");
    let list = std::fs::read_to_string(LIST).expect("a package has its sources");
    for line in list.lines() {
        let name = line.strip_prefix("    fn ").and_then(|rest| rest.split_once('('));
        if let Some((name, _)) = name.filter(|(name, _)| name.contains("Py")) {
            println!("cargo:rustc-link-arg-cdylib=-Wl,--wrap={name}");
        }
    }
    println!("cargo:rustc-link-arg-cdylib=-Wl,--wrap=PyVectorcall_Function");
}
