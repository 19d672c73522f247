//! The Rust core of plait. This file only wires: each area's `mod.rs` lists its parts,
//! its `face.rs` is what Python sees, the files beside it are the engine and know
//! nothing of Python.

#![cfg_attr(not(feature = "python"), allow(dead_code, reason = "the faces are the users"))]

mod aio;
mod atomic;
mod error;
mod forked;
mod future;
mod os;
mod parallel;
mod process;
mod sync;
mod thread;
mod trace;

#[cfg(feature = "python")]
mod context;
#[cfg(exit_unwinds)]
#[allow(unsafe_code, non_snake_case, reason = "it stands in front of C functions")]
mod exit_guard;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "python")]
mod shortcut;

/// `plait._core`: private. Users import `plait`, whose Python modules carry the
/// documentation and the types.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
mod _core {
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::process::face::{
        Child, Zygote, memfd, reap, receive_frame, send_frame, signal_process, surroundings,
    };
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::process::inside::{
        apply_attributes, await_frame, end_watch, end_with_parent, fork_sibling, next_request,
        parent_pidfd, pause_watch, resume_watch, send_hello, unblock,
    };

    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::process::pool::{
        face::{PoolDefinition, ProcessPool, TaskOptions},
        known::Watch,
        map::PoolMap,
        rehearsal::Rehearsal,
        worker::PoolWorker,
    };

    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::thread::cached::face::{CachedThread, RunEnd, close_threads, name_thread};

    #[pymodule_export]
    use crate::aio::face::{
        Awaitable, Bridge, BridgeKeeper, Response, gather, http_get, read_file, shut_down, sleep,
        to_thread, write_file,
    };
    #[cfg(unix)]
    #[pymodule_export]
    use crate::aio::net::face::{
        Door, Keeper, Op, Sockets, StreamReader, StreamWriter, TlsConnection, Visitors, parse_host,
        resolve_host,
    };
    #[pymodule_export]
    use crate::aio::net::settings::TlsSettings;
    #[pymodule_export]
    use crate::aio::{
        channel_face::BaseChannel,
        probe::{probe_calls, probe_panicking_call, probe_panics, probe_ready, probe_spawned},
        watch_face::{WatchNews, watch_begin, watch_end, watch_pause},
    };
    #[pymodule_export]
    use crate::atomic::face::{AtomicInt, AtomicRef, add_together};
    #[pymodule_export]
    use crate::future::{awaited::await_future, face::BaseFuture, promise::Promise};
    #[pymodule_export]
    use crate::parallel::face::{count_primes, cpu_count, crc32, mandelbrot, word_count};
    #[pymodule_export]
    use crate::shortcut::install_shortcuts;
    #[pymodule_export]
    use crate::sync::face::{
        PyAccess, PyBarrier, PyBoundedSemaphore, PyCondition, PyEvent, PyLock, PyRLock, PyRWLock,
        PySemaphore,
    };
    #[pymodule_export]
    use crate::sync::graph::face::{
        JoinsProcess, find_deadlocks, look_for_deadlock, untimed_waits,
    };
    #[pymodule_export]
    use crate::sync::graph::places::{lock_inversions, locks_held, record_places};
    #[pymodule_export]
    use crate::sync::queue::{face::BaseQueue, seat::QueueSeat, simple::BaseSimpleQueue};
    #[pymodule_export]
    use crate::thread::{
        face::{Job, PyLane, Worker},
        pool::face::{Attempt, BaseThreadPool, PoolThread, blocked},
    };
    #[cfg(target_os = "linux")]
    #[pymodule_export]
    use crate::trace::{
        face::{PySampler, read_tape},
        steps_face::PySteps,
    };
}
