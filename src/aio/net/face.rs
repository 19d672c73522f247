//! What Python sees of streams. `plait._streams` makes them, `plait.aio` documents that.

pub use super::address::{parse_host, resolve_host};
pub use super::op::Op;
pub use super::reader::StreamReader;
pub use super::sockets::{Door, Keeper, Sockets, Visitors};
pub use super::writer::{StreamWriter, TlsConnection};
