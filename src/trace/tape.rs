//! Where a traced process notes what happens: records of six words in a file that it has mapped.
//!
//! Algorithm: the file is a ring of blocks. A thread takes a block by one `fetch_add` and writes
//! its records there alone; so threads share no cache line, and nothing is locked. When the ring
//! is full, the oldest block is written anew, and the header's counter tells how many records
//! were lost. Space is reserved by fallocate, a piece at a time, before it is touched: a full
//! disk makes the ring shorter, and is never a SIGBUS.
//!
//! Memory order: a record's tag (its number and kind) is stored last, with Release; who reads it
//! with Acquire sees the record. A number that is not of its block is not read: a record of a
//! thread that was overtaken by the whole ring while it wrote, or one that a block's former use
//! left. What is read while it is written anew may be mixed: that is for a live view, whose next
//! picture is right.
#![allow(unsafe_code, reason = "a mapped file is reached by address")]

use crate::error::locked;
use crate::forked::generation;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of the header: what it is, which process, blocks ever taken, blocks there are,
/// when it began and ended, whether there can be no more blocks.
const HEADER: usize = 8;
const MAGIC: u64 = 0x3165_7061_7474_6c70;
const WHAT: usize = 0;
const PID: usize = 1;
const TAKEN: usize = 2;
const LIMIT: usize = 3;
const BEGAN: usize = 4;
const ENDED: usize = 5;
const FIXED: usize = 6;

/// The kind of a record that names a number, as in `plait._tracing`.
const NAME: u8 = 4;

const WORDS: usize = 6;
const BLOCK: u64 = 16;
/// Blocks that are reserved at a time: 96 KiB.
const PIECE: u64 = 128;

/// What a record says. Its words: when it began and ended, where, two of its kind's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub kind: u8,
    pub began: u64,
    pub ended: u64,
    /// The thread, and the state above it.
    pub tid: u32,
    pub state: u32,
    pub a: u64,
    pub b: u64,
}

pub struct Tape {
    file: Mutex<File>,
    start: *const AtomicU64,
    bytes: usize,
    capacity: u64,
    number: u64,
    generation: u64,
    /// Texts that Rust's records name, by their numbers.
    names: Mutex<HashMap<String, u64>>,
}

// SAFETY: the mapping belongs to no thread, and all of it is reached by atomics.
unsafe impl Send for Tape {}
// SAFETY: as above.
unsafe impl Sync for Tape {}

thread_local! {
    /// The tape, the number of the next record, and how many are left in the block.
    static PLACE: Cell<(u64, u64, u64)> = const { Cell::new((0, 0, 0)) };
}

impl Tape {
    /// A new file for at most `records` records.
    pub fn create(path: &Path, records: u64, began: u64) -> Result<Self, Errno> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let file = File::options().read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let capacity = records.div_ceil(BLOCK).max(1);
        let bytes = (HEADER + (capacity * BLOCK) as usize * WORDS) * 8;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: a new mapping at a place of the kernel's choice; what is beyond the file's end
        // is not touched before `grow` has reserved it.
        let start =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), bytes, access, flags, &file, 0) }?;
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let start = start.cast_const().cast();
        let (file, names) = (Mutex::new(file), Mutex::default());
        let tape = Self { file, start, bytes, capacity, number, generation: generation(), names };
        tape.reserve(PIECE.min(capacity))?;
        tape.word(PID).store(u64::from(std::process::id()), Ordering::Relaxed);
        tape.word(BEGAN).store(began, Ordering::Relaxed);
        tape.word(LIMIT).store(PIECE.min(capacity), Ordering::Relaxed);
        tape.word(WHAT).store(MAGIC, Ordering::Release);
        Ok(tape)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!((at + 1) * 8 <= self.bytes);
        // SAFETY: callers name a word of the header, or of a block below the limit, which is
        // reserved; the mapping lives as long as the tape.
        unsafe { &*self.start.add(at) }
    }

    fn reserve(&self, blocks: u64) -> Result<(), Errno> {
        let bytes = (HEADER as u64 + blocks * BLOCK * WORDS as u64) * 8;
        let file = locked(&self.file);
        rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, bytes)
        })
    }

    /// The first word of block `taken`, which may be an older one's.
    fn block(&self, taken: u64) -> usize {
        let mut limit = self.word(LIMIT).load(Ordering::Acquire);
        if taken >= limit && limit < self.capacity {
            limit = self.grow(taken);
        }
        HEADER + ((taken % limit) * BLOCK) as usize * WORDS
    }

    /// Makes room for block `taken`, or fixes the ring's length for good.
    #[cold]
    fn grow(&self, taken: u64) -> u64 {
        static GROWING: Mutex<()> = Mutex::new(());
        let _growing = locked(&GROWING);
        let mut limit = self.word(LIMIT).load(Ordering::Acquire);
        while taken >= limit
            && limit < self.capacity
            && self.word(FIXED).load(Ordering::Relaxed) == 0
        {
            let next = (limit + PIECE).min(self.capacity);
            if self.reserve(next).is_err() {
                self.word(FIXED).store(1, Ordering::Relaxed);
                break;
            }
            limit = next;
            self.word(LIMIT).store(limit, Ordering::Release);
        }
        limit
    }

    /// Notes a record; in a forked child it does nothing: the tape is the parent's.
    pub fn note(&self, record: Record) {
        if self.generation != generation() {
            return;
        }
        let (tape, mut number, mut left) = PLACE.get();
        if tape != self.number || left == 0 {
            number = self.word(TAKEN).fetch_add(1, Ordering::Relaxed) * BLOCK;
            left = BLOCK;
        }
        PLACE.set((self.number, number + 1, left - 1));
        let at = self.block(number / BLOCK) + (number % BLOCK) as usize * WORDS;
        let put = |word: usize, value: u64| self.word(at + word).store(value, Ordering::Relaxed);
        put(1, record.began);
        put(2, record.ended);
        put(3, u64::from(record.tid) | u64::from(record.state) << 32);
        put(4, record.a);
        put(5, record.b);
        self.word(at).store(number << 8 | u64::from(record.kind), Ordering::Release);
    }

    /// Notes what a number that records name stands for; the text's first 96 bytes.
    pub fn name(&self, number: u64, text: &str, tid: u32) {
        let words = text
            .as_bytes()
            .chunks(8)
            .map(|bytes| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        let words: Vec<u64> = words.take(12).collect();
        for (state, words) in (0..).zip(words.chunks(3)) {
            let word = |at: usize| words.get(at).copied().unwrap_or(0);
            let (began, ended, b) = (word(0), word(1), word(2));
            self.note(Record { kind: NAME, began, ended, tid, state, a: number, b });
        }
    }

    /// A number that stands for a text on this tape; none that Python gives.
    pub fn number_of(&self, text: &str, tid: u32) -> u64 {
        let mut names = locked(&self.names);
        if let Some(number) = names.get(text) {
            return *number;
        }
        let number = 1 << 40 | names.len() as u64;
        names.insert(text.to_owned(), number);
        self.name(number, text, tid);
        number
    }

    pub fn end(&self, at: u64) {
        if self.generation == generation() {
            self.word(ENDED).store(at, Ordering::Release);
        }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference to a tape that is dropped, so none into its mapping. A
        // failure would leave it mapped.
        unsafe { rustix::mm::munmap(self.start.cast_mut().cast(), self.bytes) }.unwrap_or(());
    }
}

/// What a tape holds.
#[derive(Debug, Default)]
pub struct Read {
    pub pid: u64,
    pub began: u64,
    /// 0: it goes on, or was killed.
    pub ended: u64,
    /// How many records were written over, at least.
    pub dropped: u64,
    pub records: Vec<Record>,
}

/// Reads a tape, which may still be written to; `None`: it is none, or has only just been made.
pub fn read(path: &Path) -> std::io::Result<Option<Read>> {
    let bytes = std::fs::read(path)?;
    let words = bytes.as_chunks::<8>().0;
    let word = |at: usize| words.get(at).copied().map_or(0, u64::from_ne_bytes);
    if word(WHAT) != MAGIC || word(LIMIT) == 0 {
        return Ok(None);
    }
    let (taken, limit) = (word(TAKEN), word(LIMIT));
    let mut records = Vec::new();
    for index in 0..taken.min(limit) * BLOCK {
        let at = HEADER + index as usize * WORDS;
        let tag = word(at);
        let number = tag >> 8;
        if tag == 0 || number % BLOCK != index % BLOCK || number / BLOCK % limit != index / BLOCK {
            continue;
        }
        records.push(Record {
            kind: tag as u8,
            began: word(at + 1),
            ended: word(at + 2),
            tid: word(at + 3) as u32,
            state: (word(at + 3) >> 32) as u32,
            a: word(at + 4),
            b: word(at + 5),
        });
    }
    let dropped = taken.saturating_sub(limit) * BLOCK;
    Ok(Some(Read { pid: word(PID), began: word(BEGAN), ended: word(ENDED), dropped, records }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("plait-tape-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn record(began: u64) -> Record {
        Record { kind: 7, began, ended: began + 1, tid: 3, state: 2, a: began * 2, b: u64::MAX }
    }

    #[test]
    fn what_many_threads_note_is_read_back() {
        let path = path("threads");
        let tape = Tape::create(&path, 100_000, 5).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let tape = &tape;
                scope.spawn(move || (0..5000).for_each(|at| tape.note(record(thread * 5000 + at))));
            }
        });
        tape.end(9);
        let mut read = read(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!((read.began, read.ended, read.dropped), (5, 9, 0));
        read.records.sort_by_key(|record| record.began);
        assert_eq!(read.records, (0..20_000).map(record).collect::<Vec<_>>());
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let path = path("full");
        let tape = Tape::create(&path, 64, 0).unwrap();
        (0..1000).for_each(|at| tape.note(record(at)));
        let read = read(&path).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(read.dropped >= 1000 - 64, "{}", read.dropped);
        assert!(read.records.iter().all(|record| record.began >= 1000 - 64));
        assert!(read.records.contains(&record(999)));
    }

    #[test]
    fn what_is_no_tape_is_refused() {
        let path = path("none");
        std::fs::write(&path, b"something else").unwrap();
        assert!(read(&path).unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
    }
}
