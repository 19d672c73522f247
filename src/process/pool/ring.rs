//! A ring of records in shared memory: one process appends, another one takes.
//!
//! The usual single-producer single-consumer queue (Lamport 1983): `tail` is written by the
//! producer alone, `head` by the consumer alone, both only grow, and a position's place is
//! its remainder by the capacity. Memory order: a record is written before `tail` is stored
//! with Release, and read after `tail` was loaded with Acquire; its room is used again only
//! after `head`, stored with Release, was loaded with Acquire. A producer that dies while it
//! writes has published nothing.
//!
//! A record is `length: u32, word: u32, body`, 8-aligned and never split: where it doesn't
//! fit before the ring's end, a record of padding fills the rest. `word` is an atomic, free
//! for the users: for tasks it is the state that both sides race for (see `shared`).
//!
//! The consumer gives a record's room back when it is done with it, not when it has read it.
//! So the producer, which outlives it, can read back what it was working on.

use super::memory::Mapping;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of `tail` and `head`, on cache lines of their own (pairs of lines are fetched).
const HEADER: usize = 256;
const TAIL: usize = 0;
const HEAD: usize = 128;
/// Bytes before a record's body.
const RECORD: usize = 8;
/// The word of a record that only fills the ring's end.
const PADDING: u32 = u32::MAX;

/// The other side wrote what it cannot have meant: its memory is damaged.
#[derive(Debug, PartialEq, Eq)]
pub struct Damaged;

/// Where a ring is.
#[derive(Debug, Clone)]
pub struct Place {
    pub memory: Arc<Mapping>,
    pub at: usize,
    /// A power of two.
    pub capacity: usize,
}

impl Place {
    /// Bytes that a ring takes in its mapping.
    pub const fn bytes(capacity: usize) -> usize {
        HEADER + capacity
    }

    fn offset(&self, position: u64) -> usize {
        self.at + HEADER + (position as usize & (self.capacity - 1))
    }

    fn word(&self, position: u64) -> &AtomicU32 {
        self.memory.word(self.offset(position) + 4)
    }

    fn load(&self, which: usize) -> u64 {
        self.memory.long(self.at + which).load(Ordering::Acquire)
    }

    fn store(&self, which: usize, value: u64) {
        self.memory.long(self.at + which).store(value, Ordering::Release);
    }
}

const fn padded(length: usize) -> u64 {
    ((length + 7) & !7) as u64
}

/// The appending side.
#[derive(Debug)]
pub struct Producer {
    place: Place,
    tail: u64,
    /// `head` as it was last seen.
    head: u64,
}

impl Producer {
    pub fn new(place: Place) -> Self {
        let (tail, head) = (place.load(TAIL), place.load(HEAD));
        Self { place, tail, head }
    }

    /// Appends a record of several parts; its position, `None`: there is no room now. What is
    /// longer than a quarter of the ring may never fit.
    pub fn push(&mut self, word: u32, parts: &[&[u8]]) -> Option<u64> {
        let length = RECORD + parts.iter().map(|part| part.len()).sum::<usize>();
        let need = padded(length);
        let left = (self.place.capacity - (self.tail as usize & (self.place.capacity - 1))) as u64;
        let skip = if left < need { left } else { 0 };
        if self.tail + skip + need - self.head > self.place.capacity as u64 {
            self.look();
            if self.tail + skip + need - self.head > self.place.capacity as u64 {
                return None;
            }
        }
        if skip > 0 {
            let at = self.place.offset(self.tail);
            self.place.memory.write(at, &(left as u32).to_le_bytes());
            self.place.word(self.tail).store(PADDING, Ordering::Relaxed);
        }
        let position = self.tail + skip;
        let mut at = self.place.offset(position);
        self.place.memory.write(at, &(length as u32).to_le_bytes());
        self.place.word(position).store(word, Ordering::Relaxed);
        at += RECORD;
        for part in parts {
            self.place.memory.write(at, part);
            at += part.len();
        }
        self.tail = position + need;
        self.place.store(TAIL, self.tail);
        Some(position)
    }

    /// Whether the consumer was not done with a record when this last looked; its room has not
    /// been used again then.
    pub fn is_kept(&self, position: u64) -> bool {
        position >= self.head
    }

    /// Whether the consumer is not done with a record.
    pub fn is_in_use(&mut self, position: u64) -> bool {
        self.look();
        self.is_kept(position)
    }

    /// The word of a record that was appended here and is kept.
    pub fn word(&self, position: u64) -> &AtomicU32 {
        self.place.word(position)
    }

    /// Appends to `out` `length` bytes of the body that was put there, but for the first
    /// `skipped`.
    pub fn read_back(&self, position: u64, skipped: usize, length: usize, out: &mut Vec<u8>) {
        self.place.memory.read(self.place.offset(position) + RECORD + skipped, length, out);
    }

    /// Sees how far the consumer is. What a process with damaged memory says of itself must
    /// not give us room that isn't there.
    fn look(&mut self) {
        let head = self.place.load(HEAD);
        if (self.head..=self.tail).contains(&head) {
            self.head = head;
        }
    }
}

/// The taking side.
#[derive(Debug)]
pub struct Consumer {
    place: Place,
    head: u64,
    /// `tail` as it was last seen.
    tail: u64,
}

impl Consumer {
    pub fn new(place: Place) -> Self {
        let head = place.load(HEAD);
        Self { place, head, tail: head }
    }

    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail {
            self.tail = self.place.load(TAIL);
        }
        self.head == self.tail
    }

    /// Appends the next record's body to `out`; its position and word. It stays the next one
    /// until [`advance`](Self::advance).
    pub fn peek(&mut self, out: &mut Vec<u8>) -> Result<Option<u64>, Damaged> {
        loop {
            if self.is_empty() {
                return Ok(None);
            }
            let length = self.place.memory.word(self.place.offset(self.head));
            let length = length.load(Ordering::Relaxed) as usize;
            let left = self.place.capacity - (self.head as usize & (self.place.capacity - 1));
            let there = self.tail.wrapping_sub(self.head);
            if length < RECORD || length > left || padded(length) > there {
                return Err(Damaged);
            }
            if self.word(self.head).load(Ordering::Relaxed) == PADDING {
                self.head += padded(length);
                continue;
            }
            let body = self.place.offset(self.head) + RECORD;
            self.place.memory.read(body, length - RECORD, out);
            return Ok(Some(self.head));
        }
    }

    /// The word of the record that `peek` gave.
    pub fn word(&self, position: u64) -> &AtomicU32 {
        self.place.word(position)
    }

    /// Done with the record that `peek` gave, of that many bytes of body: its room is free.
    pub fn advance(&mut self, body: usize) {
        self.head += padded(RECORD + body);
        self.place.store(HEAD, self.head);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::process::pool::memory;

    pub fn place(capacity: usize) -> Place {
        let length = Place::bytes(capacity);
        let file = memory::create("ring-test", length).unwrap();
        Place { memory: Arc::new(Mapping::new(&file, length).unwrap()), at: 0, capacity }
    }

    #[test]
    fn records_come_out_whole_and_in_order_across_the_end() {
        let place = place(1024);
        let (mut producer, mut consumer) = (Producer::new(place.clone()), Consumer::new(place));
        let record = |number: u64| vec![number as u8; (number % 90) as usize];
        let (mut sent, mut taken) = (0_u64, 0_u64);
        while taken < 5000 {
            while producer.push(sent as u32, &[&record(sent)]).is_some() {
                sent += 1;
            }
            for _ in 0..(sent - taken).min(3) {
                let mut body = Vec::new();
                let position = consumer.peek(&mut body).unwrap().unwrap();
                assert_eq!(consumer.word(position).load(Ordering::Relaxed), taken as u32);
                assert_eq!(body, record(taken));
                consumer.advance(body.len());
                taken += 1;
            }
        }
    }

    #[test]
    fn two_threads_lose_nothing() {
        let place = place(4096);
        let (mut producer, mut consumer) = (Producer::new(place.clone()), Consumer::new(place));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for number in 0_u64..200_000 {
                    while producer.push(0, &[&number.to_le_bytes()]).is_none() {
                        std::thread::yield_now();
                    }
                }
            });
            let mut body = Vec::new();
            for number in 0_u64..200_000 {
                body.clear();
                while consumer.peek(&mut body).unwrap().is_none() {
                    std::thread::yield_now();
                }
                assert_eq!(body, number.to_le_bytes());
                consumer.advance(body.len());
            }
        });
    }

    #[test]
    fn garbage_is_refused() {
        let place = place(1024);
        let mut consumer = Consumer::new(place.clone());
        place.store(TAIL, 64);
        for length in [0_u32, 3, 7, 65, 5000, u32::MAX] {
            place.memory.write(place.offset(0), &length.to_le_bytes());
            assert_eq!(consumer.peek(&mut Vec::new()), Err(Damaged));
        }
        let mut producer = Producer::new(place.clone());
        place.store(HEAD, u64::MAX / 2);
        while producer.push(0, &[&[0; 40]]).is_some() {}
    }
}
