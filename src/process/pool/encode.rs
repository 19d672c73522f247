//! Writing one value: in place what is simple, as a pickle and blocks what is not.
#![allow(unsafe_code, reason = "buffers and blocks are addresses, not Rust objects")]

use super::arena::{Arena, BlockId};
use super::codec::{Codec, INLINE_MAX};
use super::copy::copy;
use super::view::BlockRef;
use super::wire;
use crate::error::{ArenaError, locked};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString, PyTuple};
use std::sync::Mutex;

/// Copies from here on let other threads run Python, in bytes.
const DETACHED: usize = 256 * 1024;
/// Longer text is not cached as UTF-8 in the string itself.
const CACHED_TEXT: usize = 1024;

#[derive(Debug)]
pub struct InPlace {
    block: BlockId,
    /// From the block's start, in bytes.
    from: usize,
    length: usize,
    reference: Place,
}

/// Where a reference to a block was written.
#[derive(Debug)]
enum Place {
    Out(usize),
    Block(BlockId, usize),
}

/// One value on its way into a message.
pub struct Writer<'a, 'py> {
    pub codec: &'a Codec,
    pub py: Python<'py>,
    pub out: &'a mut Vec<u8>,
    pub arena: &'a Mutex<Arena>,
    pub lent: &'a mut Vec<BlockId>,
    /// What `out` and `lent` had before.
    pub start: (usize, usize),
}

impl Writer<'_, '_> {
    pub fn undo(&mut self) {
        self.out.truncate(self.start.0);
        let mut arena = locked(self.arena);
        self.lent.drain(self.start.1..).for_each(|block| arena.release(block));
    }

    pub fn write(
        &mut self,
        value: &Bound<'_, PyAny>,
        name: &str,
        in_place: Option<&mut Vec<InPlace>>,
    ) -> PyResult<()> {
        if is_simple(value, wire::DEPTH) {
            if self.simple(value)? {
                return self.spill();
            }
            self.undo(); // a member was not as simple as its type
        }
        self.pickled(value, name, in_place)
    }

    /// Writes a value of a simple type; false: it must be pickled after all.
    fn simple(&mut self, value: &Bound<'_, PyAny>) -> PyResult<bool> {
        if value.is_exact_instance_of::<PyInt>() {
            let Ok(number) = value.extract::<i64>() else { return Ok(false) };
            if let Ok(small) = i8::try_from(number) {
                self.out.extend([wire::SMALL_INT, small as u8]);
            } else {
                self.out.push(wire::INT);
                self.out.extend(number.to_le_bytes());
            }
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            return self.text(text);
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.out.push(wire::FLOAT);
            self.out.extend(number.value().to_le_bytes());
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.payload(wire::BYTES, wire::BYTES_BLOCK, bytes.as_bytes())?;
        } else if value.is_none() {
            self.out.push(wire::NONE);
        } else if let Ok(members) = value.cast_exact::<PyTuple>() {
            self.out.push(wire::TUPLE);
            wire::put_length(self.out, members.len());
            for member in members.iter_borrowed() {
                if !self.simple(&member)? {
                    return Ok(false);
                }
            }
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.out.push(if truth.is_true() { wire::TRUE } else { wire::FALSE });
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> PyResult<bool> {
        // Lone surrogates have no UTF-8; pickle has a way for them.
        if text.len()? <= CACHED_TEXT {
            let Ok(text) = text.to_str() else { return Ok(false) };
            self.payload(wire::STR, wire::STR_BLOCK, text.as_bytes())?;
        } else {
            let Ok(bytes) = text.encode_utf8() else { return Ok(false) };
            self.payload(wire::STR, wire::STR_BLOCK, bytes.as_bytes())?;
        }
        Ok(true)
    }

    fn payload(&mut self, inline: u8, block: u8, bytes: &[u8]) -> PyResult<()> {
        if bytes.len() <= INLINE_MAX {
            self.out.push(inline);
            wire::put_length(self.out, bytes.len());
            self.out.extend_from_slice(bytes);
        } else {
            let (_, reference) = self.store(&[bytes])?;
            self.out.push(block);
            self.out.extend(wire::encode_ref(reference));
        }
        Ok(())
    }

    /// What has become too long for a message goes to a block of its own.
    fn spill(&mut self) -> PyResult<()> {
        if self.out.len() - self.start.0 > INLINE_MAX + 32 {
            let value = self.out.split_off(self.start.0);
            let (_, reference) = self.store(&[&value])?;
            self.out.push(wire::VALUE_BLOCK);
            self.out.extend(wire::encode_ref(reference));
        }
        Ok(())
    }

    fn pickled(
        &mut self,
        value: &Bound<'_, PyAny>,
        name: &str,
        mut in_place: Option<&mut Vec<InPlace>>,
    ) -> PyResult<()> {
        let (pickle, buffers) = self.codec.pickle(value, name)?;
        let mut head = vec![wire::PICKLE];
        wire::put_length(&mut head, buffers.len());
        for buffer in &buffers {
            let (start, length) = (buffer.buf_ptr(), buffer.len_bytes());
            let found =
                in_place.as_ref().and_then(|known| self.find(start as usize, length, known));
            if let (Some((part, reference)), Some(known)) = (found, in_place.as_deref_mut()) {
                known.push(InPlace { reference: Place::Out(head.len()), ..part });
                head.extend(wire::encode_ref(reference));
                continue;
            }
            // SAFETY: the buffer is contiguous (see Buffers), and `buffers` keeps it exported.
            // As for any C code that copies from a buffer, it is up to the user's threads
            // not to write to it meanwhile.
            let bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), length) };
            let (_, reference) = self.store(&[bytes])?;
            head.extend(wire::encode_ref(reference));
        }
        let pickle = pickle.as_bytes();
        wire::put_length(&mut head, pickle.len());
        if head.len() + pickle.len() <= INLINE_MAX + 32 {
            let before = self.out.len();
            self.out.extend_from_slice(&head);
            self.out.extend_from_slice(pickle);
            for part in in_place.into_iter().flatten() {
                if let Place::Out(place) = &mut part.reference {
                    *place += before;
                }
            }
        } else {
            let (block, reference) = self.store(&[&head, pickle])?;
            self.out.push(wire::VALUE_BLOCK);
            self.out.extend(wire::encode_ref(reference));
            for part in in_place.into_iter().flatten() {
                if let Place::Out(place) = part.reference {
                    part.reference = Place::Block(block, place);
                }
            }
        }
        Ok(())
    }

    /// A buffer that already lies in the arena, held for us; if it is worth lending its block.
    fn find(
        &mut self,
        address: usize,
        length: usize,
        known: &[InPlace],
    ) -> Option<(InPlace, BlockRef)> {
        let mut arena = locked(self.arena);
        let block = arena.find(address)?;
        let (start, size) = arena.memory(block)?;
        // Two buffers of one block may overlap, and each must be the receiver's alone.
        if length < size / 2 || known.iter().any(|part| part.block == block) {
            return None;
        }
        let from = address - start.as_ptr() as usize;
        let reference = arena.describe(block, from as u64, length as u64)?;
        arena.hold(block);
        self.lent.push(block);
        Some((InPlace { block, from, length, reference: Place::Out(0) }, reference))
    }

    pub fn finish(&mut self, part: &InPlace) -> PyResult<()> {
        let memory = {
            let arena = locked(self.arena);
            if arena.holders(part.block) == 1 {
                return Ok(()); // ours: the array is gone
            }
            arena.memory(part.block)
        };
        let Some((start, _)) = memory else { return Ok(()) };
        // SAFETY: we hold the block, and `find` has checked that the part is in it.
        let bytes = unsafe {
            std::slice::from_raw_parts(start.as_ptr().add(part.from).cast_const(), part.length)
        };
        let (_, reference) = self.store(&[bytes])?;
        let reference = wire::encode_ref(reference);
        match part.reference {
            Place::Out(place) => self.out[place..place + wire::REF].copy_from_slice(&reference),
            Place::Block(block, place) => {
                if let Some((start, _)) = locked(self.arena).memory(block) {
                    // SAFETY: `place` is where `pickled` has written a reference in its block.
                    unsafe {
                        let target = start.as_ptr().add(place);
                        target.copy_from_nonoverlapping(reference.as_ptr(), wire::REF);
                    }
                }
            }
        }
        if let Some(index) = self.lent.iter().rposition(|&block| block == part.block) {
            self.lent.swap_remove(index);
        }
        locked(self.arena).release(part.block);
        Ok(())
    }

    /// Copies bytes, one part after the other, to a new block.
    fn store(&mut self, parts: &[&[u8]]) -> PyResult<(BlockId, BlockRef)> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let arena = self.arena;
        let work = || {
            let (block, reference, start) = {
                let mut arena = locked(arena);
                let block = arena.allocate(length as u64)?;
                let reference = arena.describe(block, 0, length as u64);
                let start = arena.memory(block).map(|(start, _)| start.as_ptr() as usize);
                (block, reference, start)
            };
            let (Some(reference), Some(mut start)) = (reference, start) else {
                unreachable!("it was allocated just now, of this length")
            };
            for part in parts {
                // SAFETY: the block is ours alone, and as long as all parts together. The
                // arena stays where it is: it is borrowed.
                let target =
                    unsafe { std::slice::from_raw_parts_mut(start as *mut u8, part.len()) };
                copy(part, target);
                start += part.len();
            }
            Ok::<_, ArenaError>((block, reference))
        };
        let copied = if length < DETACHED { work() } else { self.py.detach(work) };
        let (block, reference) = copied?;
        self.lent.push(block);
        Ok((block, reference))
    }
}

fn is_simple(value: &Bound<'_, PyAny>, depth: u32) -> bool {
    if let Ok(members) = value.cast_exact::<PyTuple>() {
        return depth > 0 && members.iter_borrowed().all(|member| is_simple(&member, depth - 1));
    }
    value.is_exact_instance_of::<PyInt>()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyFloat>()
        || value.is_exact_instance_of::<PyBytes>()
        || value.is_exact_instance_of::<PyBool>()
        || value.is_none()
}
