//! The crossings between Python and Rust, with nothing on the other side: benchmarks/aio.py
//! measures what they cost, and tests look what becomes of a future that panics.

use super::awaitable::Awaitable;
use super::bridge::Bridge;
use super::linger::Brisk;
use super::runtime;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// A Rust future that is ready when it is polled.
#[pyfunction]
pub fn probe_ready(py: Python<'_>) -> Awaitable {
    let none = py.None();
    Awaitable::of(std::future::ready(Ok(none)))
}

/// One that a task on tokio's threads ends.
#[pyfunction]
pub fn probe_spawned(py: Python<'_>) -> Awaitable {
    static KIND: Brisk = Brisk::new();
    let none = py.None();
    Awaitable::of(async move {
        runtime::spawn(std::future::ready(()))?.await?;
        Ok(none)
    })
    .brisk(&KIND)
}

/// Has a task on tokio's threads make so many calls of `callback()` on the bridge's loop.
#[pyfunction]
pub fn probe_calls(
    bridge: Py<Bridge>,
    callback: Py<PyAny>,
    context: Py<PyAny>,
    count: usize,
) -> Awaitable {
    let inbox = Arc::clone(bridge.get().inbox());
    let what = Arc::new((callback, context));
    Awaitable::of(async move {
        runtime::spawn(async move {
            for _ in 0..count {
                let what = Arc::clone(&what);
                Bridge::post(
                    &inbox,
                    Box::new(move |py| {
                        let nothing = PyTuple::empty(py).into_any().unbind();
                        Ok((what.0.clone_ref(py), what.1.clone_ref(py), nothing))
                    }),
                );
            }
        })?
        .await?;
        Python::attach(|py| Ok(py.None()))
    })
}

/// A Rust future that panics when it is polled for so many times; 0: it waits until it is dropped,
/// and panics then.
#[pyfunction]
pub fn probe_panics(polls: usize) -> Awaitable {
    struct PanicsInDrop;

    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            panic!("meant, in a drop");
        }
    }

    let in_drop = (polls == 0).then(|| PanicsInDrop);
    let mut left = polls;
    Awaitable::of(poll_fn(move |context| {
        if in_drop.is_some() {
            return Poll::Pending;
        }
        left -= 1;
        assert!(left > 0, "meant, in a poll");
        context.waker().wake_by_ref();
        Poll::Pending
    }))
}

/// Has the bridge's loop run a call of Rust's that panics.
#[pyfunction]
pub fn probe_panicking_call(bridge: Py<Bridge>) {
    Bridge::post(bridge.get().inbox(), Box::new(|_| panic!("meant, in a call")));
}
