//! How an arena's file is laid out from its base on: a page with the head; for each borrower a
//! table with a count of returns for each block; the blocks.

const MAGIC: u64 = u64::from_le_bytes(*b"plait\0ar");

pub const PAGE: u64 = 4096;

/// What is where in an arena's file, from its base on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub indices: u32,
    pub borrowers: u32,
    pub size: u64,
}

impl Layout {
    pub const ENCODED: usize = 24;

    pub fn new(borrowers: u32, size: u64) -> Self {
        // A block of 16 KiB each, or a million; more are refused like a lack of memory.
        let indices = (size / (4 * PAGE)).clamp(1024, 1 << 20) as u32;
        Self { indices, borrowers, size }
    }

    pub fn encode(self) -> [u8; Self::ENCODED] {
        let mut head = [0; Self::ENCODED];
        head[..8].copy_from_slice(&MAGIC.to_le_bytes());
        head[8..12].copy_from_slice(&self.indices.to_le_bytes());
        head[12..16].copy_from_slice(&self.borrowers.to_le_bytes());
        head[16..].copy_from_slice(&self.size.to_le_bytes());
        head
    }

    pub fn decode(head: &[u8]) -> Option<Self> {
        let (magic, rest) = head.split_first_chunk()?;
        let (indices, rest) = rest.split_first_chunk()?;
        let (borrowers, rest) = rest.split_first_chunk()?;
        let (size, _) = rest.split_first_chunk()?;
        (u64::from_le_bytes(*magic) == MAGIC).then(|| Self {
            indices: u32::from_le_bytes(*indices),
            borrowers: u32::from_le_bytes(*borrowers),
            size: u64::from_le_bytes(*size),
        })
    }

    /// The offset of the count of returns.
    pub fn counter(&self, index: u32, borrower: u32) -> Option<u64> {
        let place = u64::from(borrower) * u64::from(self.indices) + u64::from(index);
        (index < self.indices && borrower < self.borrowers).then_some(PAGE + 4 * place)
    }

    /// The offset of the first block.
    pub fn data(&self) -> u64 {
        let tables = 4 * u64::from(self.borrowers) * u64::from(self.indices);
        PAGE + tables.next_multiple_of(PAGE)
    }

    pub fn length(&self) -> u64 {
        self.data() + self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_compute_the_same_places_and_none_beyond_the_end() {
        let layout = Layout::new(3, 1 << 30);
        assert_eq!(Layout::decode(&layout.encode()), Some(layout));
        assert_eq!(Layout::decode(&layout.encode()[1..]), None);
        assert_eq!(Layout::decode(&[0; Layout::ENCODED]), None);
        let last = layout.counter(layout.indices - 1, 2);
        assert!(last.is_some_and(|place| place + 4 <= layout.data()));
        assert_eq!(layout.counter(layout.indices, 0), None);
        assert_eq!(layout.counter(0, 3), None);
    }
}
