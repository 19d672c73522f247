//! Streams over sockets: TCP, Unix, TLS.
//!
//! - `goal`: what a read asks for; `pipe`: a socket with its buffers and TLS; `stream`: a pipe
//!   and those who wait for it; `listener`: a server's sockets; `wire`: a socket for a future of
//!   Rust's; `reactor`: all of a loop's.
//!   They wait for nothing and know nothing of Python: a waiter is any `W`.
//! - `tls`: certificates and trust; `resolve`: names to addresses.
//! - `op`: what a coroutine awaits; `sockets`: a loop's; `reader`, `writer`, `handle`: the two
//!   faces of a stream; `address`, `errors`, `settings`: addresses, exceptions, TLS; `face`: all
//!   of that for lib.rs.

pub mod resolve;
pub mod tls;

#[cfg(unix)]
pub mod goal;
#[cfg(unix)]
pub mod listener;
#[cfg(unix)]
pub mod pipe;
#[cfg(unix)]
pub mod reactor;
#[cfg(unix)]
pub mod stream;
#[cfg(unix)]
pub mod wire;

#[cfg(all(unix, feature = "python"))]
mod address;
#[cfg(feature = "python")]
pub mod errors;
#[cfg(all(unix, feature = "python"))]
pub mod face;
#[cfg(all(unix, feature = "python"))]
mod handle;
#[cfg(all(unix, feature = "python"))]
mod op;
#[cfg(all(unix, feature = "python"))]
mod reader;
#[cfg(feature = "python")]
pub mod settings;
#[cfg(all(unix, feature = "python"))]
mod sockets;
#[cfg(all(unix, feature = "python"))]
mod writer;
