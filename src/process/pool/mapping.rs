//! A range of a file in memory, mapped once, and made private in forked copies.
//!
//! A child that a user forks (`os.fork`, multiprocessing's "fork") inherits shared memory as
//! shared: its writes to an array would change its parent's. So a hook in the child maps the
//! same pages again, copy-on-write. (What the parent writes later may still be seen on pages
//! that the child has not written: the kernel has no snapshot to offer.)
//!
//! Memory order: a node of the list is published with Release and read with Acquire; the hook
//! runs while the child has one thread, and finds a node whole or with a start of 0.
#![allow(unsafe_code, reason = "mappings have no safe binding")]

use super::layout::PAGE;
use super::view::BlockRef;
use crate::error::ArenaError;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::atomic::{Ordering, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Once};

/// One mapping, as the fork hook needs to know it. Nodes are reused, never freed.
#[derive(Default)]
struct Node {
    taken: AtomicBool,
    start: AtomicUsize,
    length: AtomicUsize,
    file: AtomicI32,
    base: AtomicU64,
    next: AtomicPtr<Node>,
}

static NODES: AtomicPtr<Node> = AtomicPtr::new(null_mut());
static HOOK: Once = Once::new();

/// How often this process is a fork of one that had the hook. A mapping of another generation
/// is a copy, and no one waits for its blocks.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Tells a forked copy from the process that made a thing.
pub fn generation() -> u32 {
    GENERATION.load(Relaxed)
}

/// Has [`generation`] count from now on.
pub fn count_forks() {
    HOOK.call_once(|| crate::os::at_fork_in_child(in_child));
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Relaxed);
    for node in nodes() {
        let start = node.start.load(Acquire);
        if start == 0 {
            continue;
        }
        // SAFETY: start is not 0, so the mapping that the node describes exists, and its file
        // is open: its owner clears the node first. Replacing it by the same pages keeps every
        // pointer into it valid. mmap makes no use of locks of this process.
        unsafe {
            let file = BorrowedFd::borrow_raw(node.file.load(Relaxed));
            // On failure the pages stay shared, as without the hook.
            let _ = rustix::mm::mmap(
                start as *mut _,
                node.length.load(Relaxed),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
                file,
                node.base.load(Relaxed),
            );
        }
    }
}

fn nodes() -> impl Iterator<Item = &'static Node> {
    // SAFETY: the pointers come from Box::leak, by `register`.
    let follow = |node: *mut Node| unsafe { node.as_ref() };
    std::iter::successors(follow(NODES.load(Acquire)), move |node| follow(node.next.load(Relaxed)))
}

fn register(start: usize, length: usize, file: &OwnedFd, base: u64) -> &'static Node {
    count_forks();
    let free = nodes()
        .find(|node| node.taken.compare_exchange(false, true, Ordering::AcqRel, Relaxed).is_ok());
    let node = free.unwrap_or_else(|| {
        let node: &Node = Box::leak(Box::new(Node { taken: true.into(), ..Node::default() }));
        let _ = NODES.fetch_update(Ordering::AcqRel, Acquire, |first| {
            node.next.store(first, Relaxed);
            Some(std::ptr::from_ref(node).cast_mut())
        });
        node
    });
    node.length.store(length, Relaxed);
    node.file.store(file.as_raw_fd(), Relaxed);
    node.base.store(base, Relaxed);
    node.start.store(start, Release);
    node
}

/// `length` bytes of `file`, from `base` on, at one place as long as it lives.
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
    node: &'static Node,
    generation: u32,
    file: Arc<OwnedFd>,
    base: u64,
}

// SAFETY: a Mapping only tells where the memory is; whoever reads or writes there answers for
// it. The memory is shared with another process anyway.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps without touching: memory is used when a page is written.
    pub fn new(file: Arc<OwnedFd>, base: u64, length: usize) -> Result<Self, ArenaError> {
        // SAFETY: a new mapping at a place of the kernel's choice invalidates nothing.
        let start = unsafe {
            rustix::mm::mmap(
                null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                &*file,
                base,
            )
        }
        .map_err(|error| ArenaError::os("map the pool's memory", error))?;
        let Some(start) = NonNull::new(start.cast::<u8>()) else {
            return Err(ArenaError::os("map the pool's memory", Errno::NOMEM));
        };
        let node = register(start.as_ptr() as usize, length, &file, base);
        Ok(Self { start, length, node, generation: generation(), file, base })
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    /// Whether this process is the one that made the mapping.
    pub fn is_original(&self) -> bool {
        self.generation == generation()
    }

    /// Where the `length` bytes from `offset` on are, if the mapping has them.
    pub fn at(&self, offset: u64, length: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(length)?;
        if end > self.length as u64 {
            return None;
        }
        // SAFETY: offset <= length of the mapping, which is one allocation.
        Some(unsafe { self.start.add(offset as usize) })
    }

    /// Maps the pages that hold a block once more, copy-on-write; where, and how many bytes up
    /// to the block's end.
    pub fn map_again(&self, block: BlockRef) -> Option<(NonNull<u8>, usize)> {
        self.at(block.offset, block.length)?;
        let before = block.offset % PAGE;
        let length = usize::try_from(block.length + before).ok()?;
        // SAFETY: a new mapping at a place of the kernel's choice invalidates nothing.
        let start = unsafe {
            rustix::mm::mmap(
                null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
                &*self.file,
                self.base + block.offset - before,
            )
        };
        Some((NonNull::new(start.ok()?.cast())?, length))
    }

    /// A number that both processes count with; `offset` is a multiple of 4.
    pub fn word(&self, offset: u64) -> Option<&AtomicU32> {
        let place = self.at(offset, 4)?;
        // SAFETY: in the mapping, which lives as long as `self`; aligned, since mappings start
        // at a page and offsets of words are multiples of 4. Every access to it is atomic.
        offset.is_multiple_of(4).then(|| unsafe { place.cast::<AtomicU32>().as_ref() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.node.start.store(0, Release);
        self.node.taken.store(false, Release);
        // SAFETY: the mapping is ours, and whoever has a pointer into it borrows it, or holds
        // an Arc of it. munmap of a whole mapping does not fail.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
