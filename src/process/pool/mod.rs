//! The pool's memory and its encoding of values.
//!
//! ```text
//!   owner: Arena ── encode ─▶ blocks + a few bytes ── ring ─▶ decode ─▶ View: buffers in place
//!     ▲                                                                  │
//!     └── sweeps the counters of returned blocks ◀── shared memory ◀─────┘ on drop
//! ```
//!
//! * `extents` is the book of free memory, `mapping` the shared pages and what a fork does to
//!   them, `arena` the owner's side and `view` the other; none of these knows Python.
//! * `codec` turns values into bytes and blocks, and back; `block` is a block as Python sees
//!   it; `numpy` has large arrays made in the arena from the start.

#![allow(dead_code, reason = "the engine, which uses these, is being built")]

pub mod arena;
mod extents;
pub mod mapping;
pub mod view;
mod wire;

#[cfg(feature = "python")]
pub mod block;
#[cfg(feature = "python")]
pub mod codec;
#[cfg(feature = "python")]
mod decode;
#[cfg(feature = "python")]
pub mod numpy;
