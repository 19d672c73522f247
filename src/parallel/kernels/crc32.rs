//! CRC-32 (IEEE 802.3, as `zlib.crc32`) of many buffers, by the `crc32fast` crate.

use crate::parallel::pool::Cancel;
use rayon::prelude::*;

/// Bytes between two looks at `cancel`: some tenths of a millisecond of work.
const STEP: usize = 1 << 20;

/// The checksum of each buffer, in order.
pub fn checksums(buffers: &[&[u8]], cancel: &Cancel) -> Vec<u32> {
    buffers
        .par_iter()
        .map(|buffer| {
            let mut hasher = crc32fast::Hasher::new();
            for step in buffer.chunks(STEP) {
                if cancel.is_set() {
                    break;
                }
                hasher.update(step);
            }
            hasher.finalize()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_check_value() {
        let cancel = Cancel::default();
        assert_eq!(checksums(&[b"123456789", b""], &cancel), [0xcbf4_3926, 0]);
    }
}
