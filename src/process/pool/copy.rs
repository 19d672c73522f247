//! Large copies.

use crate::error::locked;
use std::sync::Mutex;

/// Copies from here on are done by two threads, in bytes: one alone uses about half of the
/// memory's speed, and starting another costs as much as copying about 1 MB.
const TWO_THREADS: usize = 8 << 20;

/// Copies, by two threads where one alone does not use all of the memory's speed.
pub fn copy(from: &[u8], to: &mut [u8]) {
    if from.len() < TWO_THREADS || std::thread::available_parallelism().is_ok_and(|n| n.get() < 2) {
        to.copy_from_slice(from);
        return;
    }
    let half = from.len() / 2 / 4096 * 4096;
    let (to_first, to_rest) = to.split_at_mut(half);
    let (first, rest) = from.split_at(half);
    let to_rest = Mutex::new(to_rest);
    let copy_rest = || locked(&to_rest).copy_from_slice(rest);
    std::thread::scope(|scope| {
        let helper = std::thread::Builder::new().spawn_scoped(scope, || {
            crate::os::block_signals();
            copy_rest();
        });
        to_first.copy_from_slice(first);
        if helper.is_err() {
            copy_rest(); // no thread to be had
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_arrives_whoever_copies_it() {
        for length in [0, 1, TWO_THREADS - 1, TWO_THREADS, TWO_THREADS + 12_345] {
            let from: Vec<u8> = (0..length).map(|place| (place % 251) as u8).collect();
            let mut to = vec![0; length];
            copy(&from, &mut to);
            assert!(from == to, "{length}");
        }
    }
}
