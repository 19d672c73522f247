//! Primes below n, by trial division: deliberately the schoolbook algorithm, so that the
//! comparison with Python shows the language and the cores, not a cleverer method.

use crate::parallel::pool::Cancel;
use rayon::prelude::*;

/// Numbers a task: large enough to hide rayon's dispatch, small enough to balance, since
/// larger numbers take longer.
const BLOCK: u64 = 4096;

fn is_prime(n: u64) -> bool {
    if n < 4 {
        return n >= 2;
    }
    if n.is_multiple_of(2) {
        return false;
    }
    let mut divisor = 3;
    while divisor * divisor <= n {
        if n.is_multiple_of(divisor) {
            return false;
        }
        divisor += 2;
    }
    true
}

/// How many primes are in `start..stop`.
fn count_range(start: u64, stop: u64) -> u64 {
    (start..stop).filter(|n| is_prime(*n)).count() as u64
}

/// How many primes are below `n`. A cancelled count is meaningless; its caller drops it.
pub fn count(n: u64, cancel: &Cancel) -> u64 {
    let blocks = usize::try_from(n.div_ceil(BLOCK)).unwrap_or(usize::MAX);
    (0..blocks)
        .into_par_iter()
        .map(|block| {
            let start = block as u64 * BLOCK;
            (!cancel.is_set()).then(|| count_range(start, n.min(start + BLOCK)))
        })
        .while_some() // a cancelled count doesn't walk through the blocks that are left
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_counts() {
        let known = [(0, 0), (2, 0), (3, 1), (10, 4), (100, 25), (4096, 564), (100_000, 9592)];
        for (n, expected) in known {
            assert_eq!(count(n, &Cancel::default()), expected, "below {n}");
        }
    }

    #[test]
    fn a_cancelled_count_ends_early() {
        let cancel = Cancel::default();
        cancel.set();
        assert_eq!(count(u64::MAX / 2, &cancel), 0);
    }
}
