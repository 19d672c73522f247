//! Many readers or one writer.
//!
//! Algorithm: the word has the line's mark (bit 0), whether a writer has it (bit 1), and the
//! number of readers (the rest). Whoever finds somebody in line joins it, readers too, and what
//! becomes free is granted in the order of the line: to one writer, or to all readers before the
//! next one. So neither kind starves. A reader may read again past the line, since who waits
//! there waits for it.
//!
//! Who reads is in a table, so that releasing what one doesn't hold is an error, and for the
//! wait-for graph. A forked child has an empty table: there, readers that the word counts beyond
//! it may be anybody.
//!
//! Memory order: each change of the word is AcqRel; a reader's release is seen by the writer that
//! follows, through the chain of changes of one word.

use super::line::{Line, Resource, Waiting};
use super::observe::Needs;
use super::party::Party;
use crate::forked::ForkMutex;
use std::sync::atomic::{AtomicU64, Ordering};

const MARK: u64 = 1;
const WRITER: u64 = 2;
const READER: u64 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

#[derive(Default)]
pub struct RwLock {
    word: AtomicU64,
    /// The writer's word, while there is one.
    writer: AtomicU64,
    taken: AtomicU64,
    readers: ForkMutex<Vec<(Party, u64)>>,
    line: Line<Access, ()>,
}

/// It was released by somebody who does not hold it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotHeld;

impl RwLock {
    pub fn try_acquire(&self, party: Party, access: Access) -> bool {
        let again = access == Access::Read && self.reads(party);
        let taken = self.change(|word| self.fits(word, access, again));
        if taken {
            self.note(party, access);
        }
        taken
    }

    /// The word with one more of this kind, if it may have it.
    fn fits(&self, word: u64, access: Access, past_line: bool) -> Option<u64> {
        match access {
            Access::Read if word & WRITER == 0 && (past_line || word & MARK == 0) => {
                Some(word + READER)
            }
            Access::Write if word & !MARK == 0 && (past_line || word & MARK == 0) => {
                Some(word | WRITER)
            }
            _ => None,
        }
    }

    fn change(&self, next: impl FnMut(u64) -> Option<u64>) -> bool {
        self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, next).is_ok()
    }

    fn note(&self, party: Party, access: Access) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        match access {
            Access::Write => self.writer.store(party.word(), Ordering::Relaxed),
            Access::Read => {
                let mut readers = self.readers.lock();
                match readers.iter_mut().find(|(reader, _)| *reader == party) {
                    Some((_, times)) => *times += 1,
                    None => readers.push((party, 1)),
                }
            }
        }
    }

    /// Whether the party reads.
    pub fn reads(&self, party: Party) -> bool {
        self.readers().contains(&party)
    }

    /// Whether the party writes.
    pub fn writes(&self, party: Party) -> bool {
        self.owner() == Some(party)
    }

    /// Who reads.
    pub fn readers(&self) -> Vec<Party> {
        if self.word.load(Ordering::Relaxed) < READER {
            return Vec::new();
        }
        self.readers.lock().iter().map(|(party, _)| *party).collect()
    }

    /// How many times it is held for reading.
    pub fn reading(&self) -> u64 {
        self.word.load(Ordering::Relaxed) / READER
    }

    pub fn release(&self, party: Party, access: Access) -> Result<(), NotHeld> {
        match access {
            Access::Write => {
                let word = party.word();
                let nobody =
                    self.writer.compare_exchange(word, 0, Ordering::Relaxed, Ordering::Relaxed);
                nobody.map_err(|_| NotHeld)?;
            }
            Access::Read => self.forget_reader(party)?,
        }
        let last = |word| if access == Access::Write { word - WRITER } else { word - READER };
        if !self.change(|word| (word & MARK == 0).then(|| last(word))) {
            let mut waiting = self.line.lock();
            self.change(|word| Some(last(word)));
            self.hand_out(&mut waiting);
        }
        Ok(())
    }

    fn forget_reader(&self, party: Party) -> Result<(), NotHeld> {
        let mut readers = self.readers.lock();
        match readers.iter().position(|(reader, _)| *reader == party) {
            Some(found) if readers[found].1 > 1 => readers[found].1 -= 1,
            Some(found) => drop(readers.swap_remove(found)),
            None => {
                let known: u64 = readers.iter().map(|(_, times)| times).sum();
                if self.reading() <= known {
                    return Err(NotHeld);
                }
            }
        }
        Ok(())
    }

    /// Under the line's mutex: grants in order what can be had.
    fn hand_out(&self, waiting: &mut Waiting<Access, ()>) {
        while let Some(first) = waiting.first() {
            if !self.change(|word| self.fits(word, first.want, true)) {
                break;
            }
            self.note(first.party, first.want);
            waiting.grant(first, ());
        }
        if waiting.is_empty() {
            self.unmark();
        }
    }

    /// Makes it free, and forgets who waits.
    pub fn reset(&self) {
        self.line.forget();
        self.readers.forget();
        self.writer.store(0, Ordering::Relaxed);
        self.word.store(0, Ordering::Release);
    }
}

impl Resource for RwLock {
    type Want = Access;
    type Got = ();
    const KIND: &'static str = "RWLock";

    fn line(&self) -> &Line<Access, ()> {
        &self.line
    }

    fn take(&self, party: Party, access: Access) -> Option<()> {
        self.try_acquire(party, access).then_some(())
    }

    fn take_or_mark(&self, party: Party, access: Access) -> Option<()> {
        let again = access == Access::Read && self.reads(party);
        let mut taken = false;
        self.change(|word| {
            let fits = self.fits(word, access, again);
            taken = fits.is_some();
            Some(fits.unwrap_or(word | MARK))
        });
        taken.then(|| self.note(party, access))
    }

    fn unmark(&self) {
        self.word.fetch_and(!MARK, Ordering::Relaxed);
    }

    fn serve(&self, waiting: &mut Waiting<Access, ()>) {
        self.hand_out(waiting);
    }

    fn give_back(&self, party: Party, (): ()) {
        let access = if self.writes(party) { Access::Write } else { Access::Read };
        let _ = self.release(party, access); // it was granted, so it holds it
    }

    fn needs(&self, _: Party, _: Access) -> Needs {
        // Under the line's mutex: who is granted access is noted among those who have it first.
        let _line = self.line.lock();
        if let Some(writer) = self.owner() {
            return Needs::One(writer);
        }
        // A reader behind a writer in line needs what that writer does.
        let readers = self.readers();
        if readers.is_empty() { Needs::Nothing } else { Needs::All(readers) }
    }

    fn owner(&self) -> Option<Party> {
        Party::of_word(self.writer.load(Ordering::Relaxed))
    }

    fn acquisitions(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
