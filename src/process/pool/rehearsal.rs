//! A pool of one worker and one task, for a process that may become a worker: it goes through
//! the motions before anybody waits for it (see `plait._rehearsals`).

use super::arena::Arena;
use super::codec::Codec;
use super::link::{Link, RingLink};
use super::message::{Head, Kind, add_item};
use super::shared::{Board, Control, PAGE};
use crate::process::face::os_error;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::{Arc, Mutex};

/// The number of the function that is called.
const NUMBER: u32 = 1;

/// What such a worker is sent.
#[pyclass(frozen)]
pub struct Rehearsal {
    function: Vec<u8>,
    call: Vec<u8>,
}

#[pymethods]
impl Rehearsal {
    #[new]
    #[pyo3(signature = (function, args: "tuple[object, ...]"))]
    fn new(function: &Bound<'_, PyAny>, args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let py = function.py();
        let file = Board::create().map_err(|error| os_error("make a file in memory", error))?;
        let arena = Mutex::new(Arena::new(Arc::new(file), PAGE as u64, 1)?);
        let codec = Codec::new(py, false)?;
        // Small, so that no blocks are used.
        let (mut definition, mut call, mut blocks) = (Vec::new(), Vec::new(), Vec::new());
        codec.encode(function, "fn", &mut definition, &arena, &mut blocks)?;
        add_item(&mut call, |out| {
            codec.encode(args.as_any(), "args", out, &arena, &mut blocks)?;
            codec.encode(&py.None().into_bound(py), "kwargs", out, &arena, &mut blocks)
        })?;
        Ok(Self { function: definition, call })
    }

    /// A new worker's file, its pool's and the driver's bell; the task is there already, and
    /// the order to leave.
    fn files(&self) -> PyResult<(RawFd, RawFd, RawFd)> {
        let failed = |error| os_error("make a file in memory", error);
        let board = Board::create().map_err(failed)?;
        let file = Control::create().map_err(failed)?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?;
        let mut link = RingLink::new(Control::new(&file).map_err(failed)?);
        let head = Head { kind: Kind::Call, count: 1, ..Head::order(Kind::Call, 0) };
        link.send(&Head::order(Kind::Function, NUMBER), &self.function);
        link.send(&Head { function: NUMBER, ..head }, &self.call);
        link.send(&Head::order(Kind::Exit, 0), &[]);
        Ok((file.into_raw_fd(), board.into_raw_fd(), bell.into_raw_fd()))
    }
}
