//! Where the wait-for graph looks on: every wait of a thread or a task passes here, and only
//! waits do (what is had at once costs nothing).

use super::party::Party;

/// A wait that is about to begin.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "for the wait-for graph, which is being built")]
pub struct Wait {
    /// Who waits.
    pub party: Party,
    /// For what: the address of the primitive's engine.
    pub resource: usize,
    /// The primitive's name, such as `"Lock"`.
    pub kind: &'static str,
    /// Who holds it just now, if one party does.
    pub owner: Option<Party>,
    /// Whether it ends by itself, by a time limit.
    pub timed: bool,
}

/// Held while the party waits.
#[derive(Debug)]
pub struct Watched(());

/// The wait would never end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(());

/// Called with no lock held, by the thread that waits or polls.
#[inline]
pub fn before_wait(_wait: &Wait) -> Result<Watched, Refused> {
    Ok(Watched(()))
}
