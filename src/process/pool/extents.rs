//! Free memory by place and by size: best fit, neighbours merged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A set of disjoint ranges of which no two touch.
#[derive(Debug, Default)]
pub struct Extents {
    by_start: BTreeMap<u64, u64>,
    by_length: BTreeSet<(u64, u64)>,
    total: u64,
}

impl Extents {
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Adds a range that is not in the set; merges it with its neighbours.
    pub fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        if let Some(before) = self.ending_at(range.start) {
            self.remove(&before);
            range.start = before.start;
        }
        if let Some(&end) = self.by_start.get(&range.end) {
            self.remove(&(range.end..end));
            range.end = end;
        }
        self.total += range.end - range.start;
        self.by_start.insert(range.start, range.end);
        self.by_length.insert((range.end - range.start, range.start));
    }

    /// Takes out one of the set's ranges, as a whole.
    fn remove(&mut self, range: &Range<u64>) {
        if self.by_start.remove(&range.start).is_some() {
            self.by_length.remove(&(range.end - range.start, range.start));
            self.total -= range.end - range.start;
        }
    }

    /// Takes `part` out of `whole`, which is one of the set's ranges.
    pub fn carve(&mut self, whole: &Range<u64>, part: &Range<u64>) {
        self.remove(whole);
        self.insert(whole.start..part.start);
        self.insert(part.end..whole.end);
    }

    /// The ranges of at least `length` bytes, the smallest first, equal ones by place.
    pub fn fitting(&self, length: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        self.by_length.range((length, 0)..).map(|&(length, start)| start..start + length)
    }

    /// The range that ends at `place`.
    pub fn ending_at(&self, place: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.by_start.range(..place).next_back()?;
        (end == place).then_some(start..end)
    }

    /// The range that has the byte at `place`.
    pub fn around(&self, place: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.by_start.range(..=place).next_back()?;
        (place < end).then_some(start..end)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.by_start.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_merge_and_the_best_fit_comes_first() {
        let mut free = Extents::default();
        free.insert(0..10);
        free.insert(20..25);
        assert_eq!(free.fitting(5).collect::<Vec<_>>(), [20..25, 0..10]);
        assert_eq!(free.ending_at(25), Some(20..25));
        free.insert(10..20);
        assert!(free.iter().eq(std::iter::once(0..25)));
        free.carve(&(0..25), &(5..7));
        assert_eq!(free.iter().collect::<Vec<_>>(), [0..5, 7..25]);
        assert_eq!(free.total(), 23);
        assert_eq!(free.ending_at(6), None);
        assert_eq!(
            (free.around(4), free.around(5), free.around(7)),
            (Some(0..5), None, Some(7..25))
        );
    }
}
