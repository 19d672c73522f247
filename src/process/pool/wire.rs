//! How values look in bytes: a tag, then what the tag says. Numbers are little-endian.
//!
//! Reading trusts nothing: the other process may have written over its ring as it crashed.

use super::view::BlockRef;

pub const NONE: u8 = 0;
pub const FALSE: u8 = 1;
pub const TRUE: u8 = 2;
/// One byte, signed.
pub const SMALL_INT: u8 = 3;
/// Eight bytes, signed.
pub const INT: u8 = 4;
pub const FLOAT: u8 = 5;
/// A length, then that many bytes.
pub const STR: u8 = 6;
pub const BYTES: u8 = 7;
/// A count, then that many values.
pub const TUPLE: u8 = 8;
/// The number of buffers that are out of band; a reference each; a length; the pickle.
pub const PICKLE: u8 = 9;
/// A reference to a block that holds the text, the bytes, the value.
pub const STR_BLOCK: u8 = 10;
pub const BYTES_BLOCK: u8 = 11;
pub const VALUE_BLOCK: u8 = 12;

/// How deep tuples may lie in tuples; deeper ones are pickled.
pub const DEPTH: u32 = 16;

/// The bytes of a [`BlockRef`].
pub const REF: usize = 20;

/// Seven bits a byte, the lowest first; the top bit says that more follow.
pub fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

pub fn encode_ref(block: BlockRef) -> [u8; REF] {
    let mut bytes = [0; REF];
    bytes[..4].copy_from_slice(&block.index.to_le_bytes());
    bytes[4..12].copy_from_slice(&block.offset.to_le_bytes());
    bytes[12..].copy_from_slice(&block.length.to_le_bytes());
    bytes
}

/// Reads from the front of some bytes; `None`: they end too early, or make no sense.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in (0..usize::BITS - 7).step_by(7) {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }

    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    pub fn block(&mut self) -> Option<BlockRef> {
        let index = u32::from_le_bytes(self.array()?);
        let offset = u64::from_le_bytes(self.array()?);
        let length = u64::from_le_bytes(self.array()?);
        Some(BlockRef { index, offset, length })
    }

    /// Steps over one value; hands each block that it refers to, itself, to `see`.
    pub fn skip(&mut self, depth: u32, see: &mut dyn FnMut(u8, BlockRef)) -> Option<()> {
        match self.byte()? {
            NONE | FALSE | TRUE => {}
            SMALL_INT => _ = self.byte()?,
            INT | FLOAT => _ = self.array::<8>()?,
            STR | BYTES => {
                let length = self.length()?;
                self.bytes(length)?;
            }
            TUPLE => {
                let depth = depth.checked_sub(1)?;
                for _ in 0..self.length()? {
                    self.skip(depth, see)?;
                }
            }
            PICKLE => {
                for _ in 0..self.length()? {
                    see(PICKLE, self.block()?);
                }
                let length = self.length()?;
                self.bytes(length)?;
            }
            tag @ (STR_BLOCK | BYTES_BLOCK | VALUE_BLOCK) => see(tag, self.block()?),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_size_survive_and_truncated_ones_are_refused() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 1 << 40, usize::MAX >> 8] {
            let mut bytes = Vec::new();
            put_length(&mut bytes, length);
            assert_eq!(Reader(&bytes).length(), Some(length));
            assert_eq!(Reader(&bytes[..bytes.len() - 1]).length(), None);
        }
        assert_eq!(Reader(&[0xff; 20]).length(), None);
    }

    #[test]
    fn skip_sees_each_block_and_ends_with_the_value() {
        let block = BlockRef { index: 7, offset: 4096, length: 99 };
        let mut bytes = vec![TUPLE, 3, STR, 2, b'a', b'b', PICKLE, 1];
        bytes.extend(encode_ref(block));
        bytes.extend([1, b'.', BYTES_BLOCK]);
        bytes.extend(encode_ref(block));
        bytes.push(TRUE);
        let mut seen = Vec::new();
        let mut reader = Reader(&bytes);
        assert!(reader.skip(DEPTH, &mut |tag, block| seen.push((tag, block))).is_some());
        assert_eq!(seen, [(PICKLE, block), (BYTES_BLOCK, block)]);
        assert_eq!(reader.0, [TRUE]);
        for end in 0..bytes.len() - 1 {
            assert!(Reader(&bytes[..end]).skip(DEPTH, &mut |_, _| ()).is_none());
        }
    }
}
