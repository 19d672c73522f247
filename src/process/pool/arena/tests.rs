#![allow(unsafe_code, reason = "tests look at blocks by address")]

use super::*;
use crate::process::pool::view::{Borrowed, LazyView, View};
use rustix::fs::MemfdFlags;
use std::sync::atomic::AtomicBool;

const BORROWERS: u32 = 3;

fn file() -> Arc<OwnedFd> {
    Arc::new(rustix::fs::memfd_create("plait-test", MemfdFlags::CLOEXEC).unwrap())
}

fn pair(borrower: u32) -> (Arena, LazyView) {
    let file = file();
    let arena = Arena::new(Arc::clone(&file), 2 * PAGE, BORROWERS).unwrap();
    (arena, LazyView::new(file, 2 * PAGE, borrower))
}

/// Memory that the file has, in bytes.
fn pages(arena: &Arena) -> u64 {
    let stat = rustix::fs::fstat(arena.pages.mapping.file()).unwrap();
    stat.st_blocks as u64 * 512
}

impl Arena {
    /// Frees all that was returned, and keeps no more free memory than it must.
    fn tidy(&mut self) {
        self.look(usize::MAX);
        self.recent = 0;
        self.trim();
    }
}

fn fill(arena: &Arena, id: BlockId, byte: u8) {
    let (start, length) = arena.memory(id).unwrap();
    // SAFETY: the block is held, and the tests have one thread each.
    unsafe { start.as_ptr().write_bytes(byte, length) };
}

fn borrow(arena: &mut Arena, id: BlockId, view: &LazyView, borrower: u32) -> Borrowed {
    arena.lend(id, borrower);
    let (_, length) = arena.memory(id).unwrap();
    Borrowed::new(view, arena.describe(id, 0, length as u64).unwrap()).unwrap()
}

/// A sequence of numbers that is the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What the model knows of a block: who uses it, and what its bytes are.
struct Known {
    id: BlockId,
    holders: u32,
    lent: Vec<(u32, Borrowed)>,
    byte: u8,
}

#[test]
fn whatever_happens_no_block_in_use_is_used_again() {
    for seed in 1..=12 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seed);
        let file = file();
        let mut arena = Arena::new(Arc::clone(&file), 0, BORROWERS).unwrap();
        arena.keep = MIB;
        let new_view = |borrower| LazyView::new(Arc::clone(&file), 0, borrower);
        let mut views: Vec<_> = (0..BORROWERS).map(new_view).collect();
        let mut known: Vec<Known> = Vec::new();
        for step in 0..3000_u32 {
            let which = dice.below(known.len().max(1) as u64) as usize;
            match dice.below(10) {
                0..3 => {
                    let length = 1 << dice.below(20);
                    let length = length + dice.below(length);
                    let id = arena.allocate(length).unwrap();
                    let (start, size) = arena.memory(id).unwrap();
                    assert!(size as u64 >= length && size as u64 <= length + PAGE);
                    let align = if length >= LARGE { PAGE } else { ALIGN };
                    assert!((start.as_ptr() as u64).is_multiple_of(align));
                    assert_eq!(arena.find(start.as_ptr() as usize + size - 1), Some(id));
                    fill(&arena, id, step as u8);
                    known.push(Known { id, holders: 1, lent: Vec::new(), byte: step as u8 });
                }
                _ if known.is_empty() => {}
                3 if known[which].holders > 0 => {
                    arena.hold(known[which].id);
                    known[which].holders += 1;
                }
                4..6 if known[which].holders > 0 => {
                    arena.release(known[which].id);
                    known[which].holders -= 1;
                }
                6 if known[which].holders > 0 => {
                    let borrower = dice.below(BORROWERS.into()) as u32;
                    let view = &views[borrower as usize];
                    let loan = borrow(&mut arena, known[which].id, view, borrower);
                    known[which].lent.push((borrower, loan));
                }
                7..9 => drop(known[which].lent.pop()),
                9 if dice.below(20) == 0 => {
                    // The borrower dies: what it had is not returned, and it has no view.
                    let borrower = dice.below(BORROWERS.into()) as u32;
                    for block in &mut known {
                        let (dead, rest) = std::mem::take(&mut block.lent)
                            .into_iter()
                            .partition(|(lender, _)| *lender == borrower);
                        block.lent = rest;
                        let dead: Vec<_> = dead;
                        dead.into_iter().for_each(std::mem::forget);
                    }
                    arena.reclaim(borrower);
                    views[borrower as usize] = new_view(borrower);
                }
                // A revoked message: lent, but never seen.
                9 if dice.below(50) == 0 && known[which].holders > 0 => {
                    arena.lend(known[which].id, 0);
                    arena.unlend(known[which].id, 0);
                }
                9 if dice.below(50) == 0 => arena.tidy(),
                _ => {}
            }
            known.retain(|block| block.holders > 0 || !block.lent.is_empty());
        }
        for block in &known {
            let (start, length) = arena.memory(block.id).unwrap();
            // SAFETY: the block is in use, and nothing writes to it now.
            let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), length) };
            assert!(bytes.iter().all(|&byte| byte == block.byte), "seed {seed}");
            assert_eq!(arena.holders(block.id), block.holders);
        }
        let used: u64 = arena.blocks.iter().map(|block| block.range.end - block.range.start).sum();
        let free = arena.warm.total() + arena.cold.total();
        assert_eq!(used + free, arena.pages.layout.size, "seed {seed}");
        for block in known {
            (0..block.holders).for_each(|_| arena.release(block.id));
        }
        arena.tidy();
        assert!(arena.places.is_empty() && arena.awaited.is_empty(), "seed {seed}");
        assert!(arena.warm.total() <= arena.keep + arena.keep / 4);
        let books = (arena.tables.len() as u64 + 1) * PAGE;
        assert!(pages(&arena) <= arena.warm.total() + books + 2 * PAGE, "seed {seed}");
    }
}

#[test]
fn warm_memory_is_used_again_at_once() {
    let (mut arena, view) = pair(0);
    let first = arena.allocate(10 * MIB).unwrap();
    let (place, _) = arena.memory(first).unwrap();
    let loan = borrow(&mut arena, first, &view, 0);
    arena.release(first);
    let second = arena.allocate(10 * MIB).unwrap();
    assert_ne!(arena.memory(second).unwrap().0, place);
    drop(loan);
    let third = arena.allocate(10 * MIB).unwrap();
    assert_eq!(arena.memory(third).unwrap().0, place);
}

#[test]
fn memory_beyond_the_bound_is_given_back_but_never_what_is_lent() {
    let (mut arena, view) = pair(0);
    arena.keep = MIB;
    let kept = arena.allocate(8 * MIB).unwrap();
    fill(&arena, kept, 7);
    let loan = borrow(&mut arena, kept, &view, 0);
    let others: Vec<_> = (0..8).map(|_| arena.allocate(8 * MIB).unwrap()).collect();
    others.iter().for_each(|&id| fill(&arena, id, 1));
    others.into_iter().for_each(|id| arena.release(id));
    arena.release(kept);
    arena.tidy();
    assert!(pages(&arena) < 11 * MIB, "{}", pages(&arena));
    assert!(loan.bytes().iter().all(|&byte| byte == 7));
    drop(loan);
    arena.tidy();
    assert!(pages(&arena) < 3 * MIB);
}

#[test]
fn more_than_there_is_is_refused_and_nothing_is_broken() {
    let (mut arena, _) = pair(0);
    let small = arena.allocate(1).unwrap();
    let (before, layout) = (pages(&arena), arena.pages.layout);
    for length in [layout.size / 2, layout.size + 1, u64::MAX - 1, u64::MAX] {
        let error = arena.allocate(length).unwrap_err();
        assert!(error.to_string().starts_with("no memory for the arena to grow by "), "{error}");
    }
    assert_eq!(pages(&arena), before);
    arena.release(small);
    assert!(arena.allocate(MIB).is_ok());
}

#[test]
fn wild_counts_neither_free_what_is_lent_nor_panic() {
    let (mut arena, view) = pair(1);
    let id = arena.allocate(100).unwrap();
    let loan = borrow(&mut arena, id, &view, 1);
    arena.release(id);
    let place = arena.pages.layout.counter(id.index, 1).unwrap();
    for wild in [2, 1 << 31, u32::MAX] {
        arena.pages.mapping.word(place).unwrap().store(wild, Ordering::Relaxed);
        arena.tidy();
        assert!(arena.memory(id).is_some());
    }
    std::mem::forget(loan);
    arena.reclaim(1);
    assert!(arena.memory(id).is_none());
    // Whatever was left there, the next loan of this number counts from it.
    let next = arena.allocate(100).unwrap();
    assert_eq!(next.index, id.index);
    let loan = borrow(&mut arena, next, &view, 1);
    arena.release(next);
    arena.tidy();
    assert!(arena.memory(next).is_some());
    drop(loan);
    arena.tidy();
    assert!(arena.memory(next).is_none());
}

#[test]
fn references_to_nothing_are_refused() {
    let (mut arena, view) = pair(0);
    let id = arena.allocate(100).unwrap();
    let good = arena.describe(id, 0, 100).unwrap();
    assert_eq!(arena.describe(id, 0, 129), None);
    for bad in [
        BlockRef { index: u32::MAX, ..good },
        BlockRef { offset: 0, ..good },
        BlockRef { offset: u64::MAX, ..good },
        BlockRef { length: u64::MAX, ..good },
        BlockRef { offset: arena.pages.layout.length(), ..good },
    ] {
        assert!(Borrowed::new(&view, bad).is_none(), "{bad:?}");
    }
    arena.release(id);
    arena.release(id);
    arena.hold(id);
    assert_eq!((arena.holders(id), arena.memory(id)), (0, None));
}

#[test]
fn what_is_written_to_a_private_loan_is_seen_nowhere_else() {
    let (mut arena, view) = pair(0);
    let id = arena.allocate(MIB).unwrap();
    fill(&arena, id, 7);
    let (start, length) = arena.memory(id).unwrap();
    for from in [0, 100] {
        arena.lend(id, 0);
        let part = arena.describe(id, from, MIB - 2 * from).unwrap();
        let mut private = Borrowed::new(&view, part).unwrap();
        assert!(private.make_private());
        assert_eq!(private.len() as u64, part.length);
        assert!(private.bytes().iter().all(|&byte| byte == 7));
        // SAFETY: the loan is this long, and ours.
        unsafe { private.start().as_ptr().write_bytes(9, private.len()) };
        assert!(private.bytes().iter().all(|&byte| byte == 9));
    }
    // SAFETY: the block is held, and nothing writes to it now.
    let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), length) };
    assert!(bytes.iter().all(|&byte| byte == 7));
    arena.release(id);
    assert!(arena.memory(id).is_none());
    let small = arena.allocate(100).unwrap();
    assert!(!borrow(&mut arena, small, &view, 0).make_private());
}

#[test]
fn a_view_of_no_arena_or_by_no_borrower_is_refused() {
    let file = file();
    assert!(matches!(View::new(Arc::clone(&file), 0, 0), Err(ArenaError::Foreign)));
    let _arena = Arena::new(Arc::clone(&file), 0, 1).unwrap();
    assert!(matches!(View::new(file, 0, 1), Err(ArenaError::Borrower { .. })));
}

#[test]
fn blocks_are_returned_by_any_thread() {
    let (arena, view) = pair(0);
    let (arena, done) = (std::sync::Mutex::new(arena), AtomicBool::new(false));
    let (sender, receiver) = std::sync::mpsc::sync_channel::<(u8, Borrowed)>(100);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (byte, loan) in receiver {
                assert!(loan.bytes().iter().all(|&found| found == byte));
            }
            done.store(true, Ordering::Release);
        });
        for round in 0..5000_u32 {
            let mut arena = arena.lock().unwrap();
            let id = arena.allocate(u64::from(round % 700) * 100).unwrap();
            fill(&arena, id, round as u8);
            let loan = borrow(&mut arena, id, &view, 0);
            arena.release(id);
            sender.send((round as u8, loan)).unwrap();
        }
        drop(sender);
    });
    assert!(done.load(Ordering::Acquire));
    let mut arena = arena.into_inner().unwrap();
    arena.tidy();
    assert!(arena.places.is_empty());
}
