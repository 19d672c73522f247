//! How many spares are worth keeping: it follows what was asked for recently.
//!
//! A start that found no spare raises the number by one, up to a bound; spares that nobody
//! needed for a while lower it again. Time passes only when something is asked for: a process
//! that starts nothing is never woken. (Its spares end by themselves, see `patience`.)

use std::time::{Duration, Instant};

/// Enough for a pair that is started together. Each is some 2 MB.
const LEAST: usize = 2;
/// After so long, spares that were not needed are not replaced.
const LULL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Demand {
    wanted: usize,
    most: usize,
    /// The fewest spares that were left after a start since `since`.
    unused: usize,
    since: Instant,
}

impl Demand {
    pub fn new(now: Instant, cpus: usize) -> Self {
        Self { wanted: LEAST, most: (2 * cpus).clamp(4, 16), unused: LEAST, since: now }
    }

    /// A child was asked for; so many spares are left, or there was `None`.
    pub fn took(&mut self, left: Option<usize>) {
        match left {
            Some(left) => self.unused = self.unused.min(left),
            None => {
                self.wanted = self.most.min(self.wanted + 1);
                self.unused = 0;
            }
        }
    }

    /// How many there should be.
    pub fn wanted(&mut self, now: Instant) -> usize {
        if now.duration_since(self.since) > LULL {
            self.wanted = LEAST.max(self.wanted.saturating_sub(self.unused));
            (self.unused, self.since) = (self.wanted, now);
        }
        self.wanted
    }
}

/// How long a spare waits for work, by how many were there before it: those that only a burst
/// needed go first, and after a minute a process that starts none has none.
pub fn patience(rank: usize) -> Duration {
    if rank < LEAST { 6 * LULL } else { 2 * LULL }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_raises_it_to_a_bound_and_a_lull_lowers_it() {
        let start = Instant::now();
        let mut demand = Demand::new(start, 2);
        assert_eq!(demand.wanted(start), 2);
        demand.took(Some(1));
        demand.took(Some(0));
        assert_eq!(demand.wanted(start), 2);
        for _ in 0..10 {
            demand.took(None);
        }
        assert_eq!(demand.wanted(start), 4);
        let mut now = start + LULL + Duration::from_secs(1);
        assert_eq!(demand.wanted(now), 4); // all were needed until now
        demand.took(Some(3));
        now += LULL + Duration::from_secs(1);
        assert_eq!(demand.wanted(now), 2);
        now += 100 * LULL;
        assert_eq!(demand.wanted(now), 2);
    }

    #[test]
    fn the_last_to_come_are_the_first_to_go() {
        assert_eq!(patience(0), patience(1));
        assert!(patience(2) < patience(1));
    }
}
