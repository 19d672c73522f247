//! Bytes that are kept inline while they are few.

/// As many as fit beside the length in the space that a boxed slice takes anyway.
const INLINE: usize = 22;

/// An owned, immutable byte string; up to 22 bytes need no allocation.
#[derive(Debug, Clone)]
pub struct SmallBytes(Bytes);

#[derive(Debug, Clone)]
enum Bytes {
    Inline { length: u8, bytes: [u8; INLINE] },
    Boxed(Box<[u8]>),
}

impl From<&[u8]> for SmallBytes {
    fn from(slice: &[u8]) -> Self {
        if slice.len() > INLINE {
            return Self(Bytes::Boxed(slice.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..slice.len()].copy_from_slice(slice);
        #[expect(clippy::cast_possible_truncation, reason = "at most INLINE")]
        Self(Bytes::Inline { length: slice.len() as u8, bytes })
    }
}

impl From<Vec<u8>> for SmallBytes {
    /// Keeps the allocation, unless the bytes fit inline.
    fn from(vector: Vec<u8>) -> Self {
        if vector.len() > INLINE {
            return Self(Bytes::Boxed(vector.into_boxed_slice()));
        }
        Self::from(vector.as_slice())
    }
}

impl std::ops::Deref for SmallBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Boxed(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_comes_back() {
        for length in 0..64 {
            let bytes: Vec<u8> = (0..length).collect();
            assert_eq!(*SmallBytes::from(bytes.as_slice()), bytes);
            assert_eq!(*SmallBytes::from(bytes.clone()), bytes);
        }
        assert_eq!(size_of::<SmallBytes>(), 24);
    }
}
