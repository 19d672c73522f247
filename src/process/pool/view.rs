//! The side that uses blocks which the other process has allocated.
//!
//! Memory order: a block's bytes are published by the message that names it. The count of
//! returns is raised with Release when nothing here uses the block any more, and read with
//! Acquire before the owner writes to it again.
#![allow(unsafe_code, reason = "a block's bytes are at an address, not in a Rust object")]

use super::layout::Layout;
use super::mapping::Mapping;
use crate::error::ArenaError;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// Blocks from here on are worth a mapping of their own, in bytes; smaller ones are copied.
const PRIVATE: usize = 256 * 1024;

/// Where a block's bytes are, as a message says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockRef {
    /// The block's number, under which it is returned.
    pub index: u32,
    /// From the start of the mapping.
    pub offset: u64,
    pub length: u64,
}

/// Another process's arena, seen by borrower number `borrower`.
pub struct View {
    mapping: Mapping,
    layout: Layout,
    borrower: u32,
}

impl View {
    /// Maps the arena that its owner has laid out at `base` of `file`.
    ///
    /// # Errors
    /// There is no arena, it has no such borrower, or the address space is too small for it.
    pub fn new(file: Arc<OwnedFd>, base: u64, borrower: u32) -> Result<Self, ArenaError> {
        let mut head = [0; Layout::ENCODED];
        let count = rustix::io::pread(&*file, &mut head, base)
            .map_err(|error| ArenaError::os("read the arena's head", error))?;
        let layout = Layout::decode(&head[..count]).ok_or(ArenaError::Foreign)?;
        if borrower >= layout.borrowers {
            return Err(ArenaError::Borrower { borrower, borrowers: layout.borrowers });
        }
        let length = usize::try_from(layout.length())
            .map_err(|_| ArenaError::os("map the pool's memory", Errno::NOMEM))?;
        let mapping = Mapping::new(file, base, length)?;
        Ok(Self { mapping, layout, borrower })
    }

    /// A block's first byte, if the arena can have such a block.
    pub fn at(&self, block: BlockRef) -> Option<NonNull<u8>> {
        let known = block.offset >= self.layout.data() && block.index < self.layout.indices;
        if known { self.mapping.at(block.offset, block.length) } else { None }
    }

    /// Tells the owner that one use of a block has ended; the forked copy of a user tells
    /// nothing.
    pub fn give_back(&self, index: u32) {
        if !self.mapping.is_original() {
            return;
        }
        let count = self.layout.counter(index, self.borrower);
        if let Some(count) = count.and_then(|place| self.mapping.word(place)) {
            count.fetch_add(1, Ordering::Release);
        }
    }
}

/// A view that is mapped when the first block arrives: most tasks have none.
pub struct LazyView {
    /// File, base, borrower; `None`: no block can arrive.
    place: Option<(Arc<OwnedFd>, u64, u32)>,
    view: OnceLock<Option<Arc<View>>>,
}

impl LazyView {
    pub fn new(file: Arc<OwnedFd>, base: u64, borrower: u32) -> Self {
        Self { place: Some((file, base, borrower)), view: OnceLock::new() }
    }

    pub fn none() -> Self {
        Self { place: None, view: OnceLock::new() }
    }

    /// `None`: there is no such arena, or no room for it in our address space.
    pub fn get(&self) -> Option<&Arc<View>> {
        let map = || {
            let (file, base, borrower) = self.place.as_ref()?;
            View::new(Arc::clone(file), *base, *borrower).ok().map(Arc::new)
        };
        self.view.get_or_init(map).as_ref()
    }
}

/// One use of a block: returned when dropped.
pub struct Borrowed {
    view: Arc<View>,
    block: BlockRef,
    start: NonNull<u8>,
    /// The block's pages mapped once more, copy-on-write: from where, and how many bytes.
    private: Option<(NonNull<u8>, usize)>,
}

// SAFETY: the pointer is into the mapping that `view` keeps, which any thread may use.
unsafe impl Send for Borrowed {}
// SAFETY: as above.
unsafe impl Sync for Borrowed {}

impl Borrowed {
    /// `None`: the arena can have no such block, so there is nothing to return either.
    pub fn new(view: &LazyView, block: BlockRef) -> Option<Self> {
        let view = view.get()?;
        let start = view.at(block)?;
        Some(Self { view: Arc::clone(view), block, start, private: None })
    }

    /// The same, but what is written to it is seen here only: each page is copied when it is
    /// first written to. False: it is as before, too small to be worth it or out of room.
    pub fn make_private(&mut self) -> bool {
        if self.len() < PRIVATE || self.private.is_some() {
            return false;
        }
        let Some((start, length)) = self.view.mapping.map_again(self.block) else { return false };
        self.private = Some((start, length));
        // SAFETY: the mapping ends where the block does, at the end of a page or before.
        self.start = unsafe { start.add(length - self.len()) };
        true
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn len(&self) -> usize {
        self.block.length as usize
    }

    /// The block's bytes. The other process could change them meanwhile, if it misbehaves:
    /// they must be checked after they have been copied, not before.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` and the length were checked by `View::at`, and the mapping lives as
        // long as `self.view`, or is our own. The owner does not write to a block that it lends.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len()) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some((start, length)) = self.private {
            // SAFETY: ours alone, and whoever has a pointer into it keeps `self`.
            let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), length) };
        }
        self.view.give_back(self.block.index);
    }
}
