//! The owner's side of the shared memory: blocks, allocated and lent by this process alone.
//!
//! First touch of a page of shared memory costs more than copying into it, so pages are used
//! again while they are warm: best fit among free memory that has pages, then growth. All the
//! books are in this process's own memory. The other processes write, beside their data, one
//! count per block and borrower of how often they returned it; it is only ever compared with
//! what was lent. So a borrower's wild write there can keep a block from being used again,
//! until that borrower is reclaimed, and a borrower that is killed leaves nothing but blocks.

use super::extents::Extents;
use super::layout::PAGE;
use super::pages::Pages;
use super::view::BlockRef;
use crate::error::ArenaError;
use rustix::io::Errno;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const MIB: u64 = 1 << 20;
/// Blocks start at a cache line, so that arrays in them may be used by SIMD code.
const ALIGN: u64 = 64;
/// Blocks from here on are whole pages, which can be given back.
const LARGE: u64 = 16 * PAGE;
/// The arena grows at least by this, so that small blocks don't each cost a system call.
const GROWTH: u64 = MIB;
/// How many blocks that wait to be returned are looked at, at most, by one allocation.
const LOOKS: usize = 256;

/// Names a block for as long as it is held; later it names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId {
    index: u32,
    life: u32,
}

#[derive(Debug, Default)]
struct Block {
    /// From the start of the mapping; empty while the number is vacant.
    range: Range<u64>,
    life: u32,
    holders: u32,
    loans: Vec<Loan>,
}

#[derive(Debug)]
struct Loan {
    borrower: u32,
    /// How often it was lent, and the count of returns before that.
    times: u32,
    before: u32,
}

pub struct Arena {
    pages: Pages,
    blocks: Vec<Block>,
    vacant: Vec<u32>,
    /// The blocks in use, by where they start.
    places: BTreeMap<u64, u32>,
    /// Blocks that no one here holds any more, but that were lent.
    awaited: VecDeque<BlockId>,
    /// Free memory that has pages, and free address space that has none.
    warm: Extents,
    cold: Extents,
    /// Pages of the tables of counts that have memory.
    tables: HashSet<u64>,
    /// How much free memory is kept, in bytes, whatever was used of late.
    keep: u64,
    /// The largest block of late: it will be wanted again.
    recent: u64,
}

impl Arena {
    /// Lays out an arena from `base` (a multiple of the page size) to the end of `file`.
    ///
    /// It reserves address space for twice the machine's memory, or what it can get; memory is
    /// used as it grows.
    pub fn new(file: Arc<OwnedFd>, base: u64, borrowers: u32) -> Result<Self, ArenaError> {
        let pages = Pages::new(file, base, borrowers)?;
        let (layout, memory) = (pages.layout, pages.memory);
        let mut cold = Extents::default();
        cold.insert(layout.data()..layout.length());
        Ok(Self {
            pages,
            blocks: Vec::new(),
            vacant: Vec::new(),
            places: BTreeMap::new(),
            awaited: VecDeque::new(),
            warm: Extents::default(),
            cold,
            tables: HashSet::new(),
            keep: (256 * MIB).min(memory / 4),
            recent: 0,
        })
    }

    /// A block of at least `length` bytes that the caller holds. Its bytes are left-overs.
    ///
    /// # Errors
    /// There is no memory for it; the arena is as before.
    pub fn allocate(&mut self, length: u64) -> Result<BlockId, ArenaError> {
        let (length, align) = match length {
            LARGE.. => (length.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX), PAGE),
            _ => (length.max(1).next_multiple_of(ALIGN), ALIGN),
        };
        self.look(4);
        let mut found = self.find_warm(length, align);
        if found.is_none() {
            self.look(LOOKS);
            found = self.find_warm(length, align);
        }
        let index = self.vacant.last().copied().unwrap_or(self.blocks.len() as u32);
        if index >= self.pages.layout.indices {
            return Err(no_memory(length));
        }
        let (whole, part) = match found {
            Some(found) => found,
            None => self.grow(length, align)?,
        };
        self.recent = length.max(self.recent - self.recent / 16);
        self.warm.carve(&whole, &part);
        if self.vacant.pop().is_none() {
            self.blocks.push(Block::default());
        }
        self.places.insert(part.start, index);
        let block = &mut self.blocks[index as usize];
        block.range = part;
        block.holders = 1;
        Ok(BlockId { index, life: block.life })
    }

    fn find_warm(&self, length: u64, align: u64) -> Option<(Range<u64>, Range<u64>)> {
        let fit = |whole: Range<u64>| {
            let start = whole.start.next_multiple_of(align);
            (start + length <= whole.end).then(|| (whole, start..start + length))
        };
        // The few smallest may lose by their alignment; with room for it, none does.
        self.warm
            .fitting(length)
            .take(8)
            .find_map(fit)
            .or_else(|| self.warm.fitting(length.checked_add(align)?).find_map(fit))
    }

    /// Gets pages for the first address space that has room, behind what is free there.
    fn grow(&mut self, length: u64, align: u64) -> Result<(Range<u64>, Range<u64>), ArenaError> {
        let found = self.cold.iter().find_map(|cold| {
            let before = self.warm.ending_at(cold.start);
            let start = before.map_or(cold.start, |warm| warm.start).next_multiple_of(align);
            let end = start.checked_add(length)?;
            (end <= cold.end).then_some((cold, start..end))
        });
        let (cold, part) = found.ok_or_else(|| no_memory(length))?;
        let end = part.end.max(cold.start + GROWTH).next_multiple_of(PAGE).min(cold.end);
        let new = cold.start..end;
        self.pages.reserve(&new)?;
        self.cold.carve(&cold, &new);
        self.warm.insert(new.clone());
        // It may have closed a gap, so that what is free reaches further on both sides.
        let whole = self.warm.around(part.start).unwrap_or(new);
        Ok((whole, part))
    }

    fn block(&self, id: BlockId) -> Option<&Block> {
        let block = self.blocks.get(id.index as usize)?;
        (block.life == id.life && !block.range.is_empty()).then_some(block)
    }

    fn block_mut(&mut self, id: BlockId) -> Option<&mut Block> {
        let block = self.blocks.get_mut(id.index as usize)?;
        (block.life == id.life && !block.range.is_empty()).then_some(block)
    }

    /// Where a block's bytes are, and how many it has.
    pub fn memory(&self, id: BlockId) -> Option<(NonNull<u8>, usize)> {
        let range = &self.block(id)?.range;
        let length = range.end - range.start;
        Some((self.pages.mapping.at(range.start, length)?, length as usize))
    }

    /// The block that holds an address.
    pub fn find(&self, address: usize) -> Option<BlockId> {
        let offset = address.checked_sub(self.pages.mapping.start().as_ptr() as usize)? as u64;
        let (_, &index) = self.places.range(..=offset).next_back()?;
        let block = &self.blocks[index as usize];
        (offset < block.range.end).then_some(BlockId { index, life: block.life })
    }

    /// The addresses that blocks can have.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.pages.mapping.start().as_ptr() as usize;
        start..start + self.pages.mapping.len()
    }

    /// What to tell a borrower about `length` bytes of a block, from `from` on.
    pub fn describe(&self, id: BlockId, from: u64, length: u64) -> Option<BlockRef> {
        let range = &self.block(id)?.range;
        let offset = range.start + from;
        (offset + length <= range.end).then_some(BlockRef { index: id.index, offset, length })
    }

    /// How many hold the block in this process.
    pub fn holders(&self, id: BlockId) -> u32 {
        self.block(id).map_or(0, |block| block.holders)
    }

    pub fn hold(&mut self, id: BlockId) {
        if let Some(block) = self.block_mut(id) {
            block.holders += 1;
        }
    }

    /// One holder less. The last one's block is used again once every loan has ended.
    pub fn release(&mut self, id: BlockId) {
        let Some(block) = self.block_mut(id) else { return };
        block.holders = block.holders.saturating_sub(1);
        if block.holders > 0 {
            return;
        }
        if self.is_back(id) {
            self.free(id);
        } else {
            self.awaited.push_back(id);
        }
    }

    /// Lends a block: the borrower, a number below that of the arena's borrowers, will return
    /// it once for each time.
    pub fn lend(&mut self, id: BlockId, borrower: u32) {
        let place = self.pages.layout.counter(id.index, borrower);
        let count = place.and_then(|place| self.count(place));
        let before = count.map_or(0, |count| count.load(Ordering::Acquire));
        let Some(block) = self.block_mut(id) else { return };
        match block.loans.iter_mut().find(|loan| loan.borrower == borrower) {
            Some(loan) => loan.times = loan.times.wrapping_add(1),
            None => block.loans.push(Loan { borrower, times: 1, before }),
        }
    }

    /// The count of returns at a place, in memory that is there.
    fn count(&mut self, place: u64) -> Option<&AtomicU32> {
        let page = place / PAGE * PAGE;
        if !self.tables.contains(&page) && self.pages.reserve(&(page..page + PAGE)).is_ok() {
            self.tables.insert(page);
        }
        // With no memory for so little the machine is at its end, but a loan must not get lost:
        // the kernel tries once more when the count is touched.
        self.pages.mapping.word(place)
    }

    /// Takes back a loan that its borrower has not seen: its message was revoked.
    pub fn unlend(&mut self, id: BlockId, borrower: u32) {
        let Some(block) = self.block_mut(id) else { return };
        if let Some(loan) = block.loans.iter_mut().find(|loan| loan.borrower == borrower) {
            loan.times = loan.times.wrapping_sub(1);
        }
    }

    /// Lends blocks for good: the caller no longer holds them.
    pub fn hand_over(&mut self, ids: &[BlockId], borrower: u32) {
        for &id in ids {
            self.lend(id, borrower);
            self.release(id);
        }
    }

    /// Ends all loans of a borrower that is dead, and so will neither use nor return anything.
    pub fn reclaim(&mut self, borrower: u32) {
        for block in &mut self.blocks {
            block.loans.retain(|loan| loan.borrower != borrower);
        }
        self.look(usize::MAX);
    }

    fn is_back(&self, id: BlockId) -> bool {
        let Some(block) = self.block(id) else { return false };
        block.loans.iter().all(|loan| {
            let place = self.pages.layout.counter(id.index, loan.borrower);
            let count = place.and_then(|place| self.pages.mapping.word(place));
            count.is_some_and(|count| {
                count.load(Ordering::Acquire).wrapping_sub(loan.before) == loan.times
            })
        })
    }

    /// Frees what was returned among the next few blocks that are awaited.
    fn look(&mut self, most: usize) {
        for _ in 0..self.awaited.len().min(most) {
            let Some(id) = self.awaited.pop_front() else { return };
            if self.is_back(id) {
                self.free(id);
            } else {
                self.awaited.push_back(id);
            }
        }
    }

    fn free(&mut self, id: BlockId) {
        let Some(block) = self.block_mut(id) else { return };
        let range = std::mem::take(&mut block.range);
        block.life = block.life.wrapping_add(1);
        block.loans.clear();
        self.places.remove(&range.start);
        self.vacant.push(id.index);
        self.warm.insert(range);
        self.trim();
    }

    /// Gives free memory back, from the end on, when there is clearly more than to be kept.
    fn trim(&mut self) {
        let keep = self.keep.max(self.recent);
        if self.warm.total() <= keep + keep / 4 {
            return;
        }
        let mut excess = self.warm.total() - keep;
        let mut given = Vec::new();
        for whole in self.warm.iter().rev() {
            let end = whole.end / PAGE * PAGE;
            let start = whole.start.next_multiple_of(PAGE);
            let part = start.max(end.saturating_sub(excess.next_multiple_of(PAGE)))..end;
            if !part.is_empty() && self.pages.punch(&part) {
                excess = excess.saturating_sub(part.end - part.start);
                given.push((whole, part));
            }
            if excess == 0 {
                break;
            }
        }
        for (whole, part) in given {
            self.warm.carve(&whole, &part);
            self.cold.insert(part);
        }
    }
}

fn no_memory(bytes: u64) -> ArenaError {
    ArenaError::NoMemory { bytes, source: Errno::NOMEM.into() }
}

#[cfg(test)]
mod tests;
