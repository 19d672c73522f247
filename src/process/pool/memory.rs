//! Files in memory that a pool's parent and its workers map: nothing in /dev/shm, closed and
//! gone with the last process that has them, and grown by fallocate before they are touched,
//! so that running out of memory is an error of ours and never a SIGBUS.

#![allow(unsafe_code, reason = "shared memory is mapped, and looked at, by address")]

use rustix::fs::{FallocateFlags, MemfdFlags, Mode};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

/// A range of a file in memory, mapped shared.
#[derive(Debug)]
pub struct Mapping {
    address: *mut u8,
    length: usize,
}

// SAFETY: the mapping belongs to no thread; what is in it is reached by atomics, or by ring
// positions whose owners agree by atomics on who may touch what.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// A new file in memory, close-on-exec, of `length` bytes that are there for good.
pub fn create(name: &str, length: usize) -> Result<OwnedFd, Errno> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?;
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?; // nobody else by way of /proc
    rustix::io::retry_on_intr(|| {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length as u64)
    })?;
    Ok(file)
}

impl Mapping {
    /// Maps the file's first `length` bytes, which must be there.
    pub fn new(file: impl AsFd, length: usize) -> Result<Self, Errno> {
        let there = rustix::fs::fstat(&file)?.st_size;
        if u64::try_from(there).unwrap_or(0) < length as u64 {
            return Err(Errno::NXIO);
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes, of a range that the file has.
        let address = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), length, access, MapFlags::SHARED, file, 0)?
        };
        Ok(Self { address: address.cast(), length })
    }

    /// The word at a multiple of 4.
    pub fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= self.length, "a word of the mapping");
        // SAFETY: aligned and inside, as just checked; all processes use it as an atomic.
        unsafe { AtomicU32::from_ptr(self.address.add(at).cast()) }
    }

    /// The double word at a multiple of 8.
    pub fn long(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= self.length, "a double word of the mapping");
        // SAFETY: as in `word`.
        unsafe { AtomicU64::from_ptr(self.address.add(at).cast()) }
    }

    /// Copies bytes in. The caller owns that range at the moment.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.length && bytes.len() <= self.length - at, "inside of the mapping");
        // SAFETY: inside, as just checked; private memory and the mapping don't overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.address.add(at), bytes.len());
        }
    }

    /// Appends bytes to `out`. A copy, not a view: a process that misbehaves may change them
    /// at any time.
    pub fn read(&self, at: usize, length: usize, out: &mut Vec<u8>) {
        assert!(at <= self.length && length <= self.length - at, "inside of the mapping");
        out.reserve(length);
        // SAFETY: inside, as just checked, and there is room for them behind what `out` has.
        unsafe {
            let end = out.as_mut_ptr().add(out.len());
            std::ptr::copy_nonoverlapping(self.address.add(at), end, length);
            out.set_len(out.len() + length);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which no borrow is left.
        let _ = unsafe { rustix::mm::munmap(self.address.cast(), self.length) };
    }
}
