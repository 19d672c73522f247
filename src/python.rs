//! What every face needs of the interpreter: waits that ^C can end.

use crate::os::{Flag, Woken};
use crate::parallel::pool::Cancel;
use pyo3::prelude::*;
use rayon::ThreadPool;

/// Runs `job` on a rayon pool with the GIL released, and lets signals through: when a
/// Python signal handler raises (^C), `cancel` is set, the job is waited for, and the
/// exception goes to the caller.
pub fn run_on_pool<T: Send>(
    py: Python<'_>,
    pool: &ThreadPool,
    job: impl FnOnce(&Cancel) -> T + Send,
) -> PyResult<T> {
    let (done, cancel) = (Flag::default(), Cancel::default());
    let mut result = None;
    let mut raised = None;
    py.detach(|| {
        // in_place_scope: this thread keeps to itself and watches for signals; the scope
        // ends only when the job has, so what the job borrows outlives it.
        pool.in_place_scope(|scope| {
            scope.spawn(|_| {
                let _set_even_on_panic = SetOnDrop(&done);
                result = Some(job(&cancel));
            });
            while done.wait() == Woken::Interrupted {
                if let Err(error) = Python::attach(|py| py.check_signals()) {
                    cancel.set();
                    raised = Some(error);
                    break;
                }
            }
        });
    });
    match (raised, result) {
        (Some(error), _) => Err(error),
        (None, Some(value)) => Ok(value),
        (None, None) => unreachable!("the scope ends after the job, or passes its panic on"),
    }
}

struct SetOnDrop<'a>(&'a Flag);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}
