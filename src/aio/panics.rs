//! A panic ends what panicked, and nothing beside it: a future's goes to who awaits the future,
//! as the exception that PyO3 would raise.

use pyo3::panic::PanicException;
use pyo3::prelude::*;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs this, which may call Python. What it changes is not used any more after a panic.
pub fn caught<T>(run: impl FnOnce() -> T) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(run))
        .map_err(|payload| PanicException::new_err((text_of(&*payload),)))
}

/// Drops this; nobody waits for what comes of it, so that a panic is told as Python tells of a
/// `__del__` that raises.
pub fn discard<T>(py: Python<'_>, what: T) {
    if let Err(panic) = caught(|| drop(what)) {
        panic.write_unraisable(py, None);
    }
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    let text = owned.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("panic from Rust code").to_owned()
}
