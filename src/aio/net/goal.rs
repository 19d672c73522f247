//! What a read asks for, and whether the bytes that are there suffice. The rules and the
//! errors are those of `asyncio.StreamReader`.

use memchr::memmem;
use std::cmp::Reverse;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// One byte at least, so many at most.
    Some(usize),
    Exactly(usize),
    /// Everything up to the end of the stream.
    All,
    Until {
        separators: Vec<Vec<u8>>,
        limit: usize,
    },
    /// Up to a newline, or to the end of the stream.
    Line {
        limit: usize,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// So many bytes are the answer.
    Take(usize),
    /// The stream has ended before; the answer is an error with all that there is.
    Incomplete { expected: Option<usize> },
    /// More than `limit`: the separator is at `consumed`, or not in so many bytes.
    Overrun { found: bool, consumed: usize },
}

impl Goal {
    /// What to answer, if it can be said yet. `scanned`: bytes that are known to hold no
    /// separator; whoever takes bytes or changes the goal sets it to 0.
    pub fn look(&self, buffer: &[u8], ended: bool, scanned: &mut usize) -> Option<Found> {
        let have = buffer.len();
        match self {
            Self::Some(most) if *most == 0 || have > 0 || ended => {
                Some(Found::Take(have.min(*most)))
            }
            Self::Exactly(wanted) if have >= *wanted => Some(Found::Take(*wanted)),
            Self::Exactly(wanted) if ended => Some(Found::Incomplete { expected: Some(*wanted) }),
            Self::All if ended => Some(Found::Take(have)),
            Self::Some(_) | Self::Exactly(_) | Self::All => None,
            Self::Line { limit } => match seek(buffer, &[b"\n"], *limit, scanned) {
                None if ended => Some(Found::Take(have)),
                found => found,
            },
            Self::Until { separators, limit } => match seek(buffer, separators, *limit, scanned) {
                None if ended => Some(Found::Incomplete { expected: None }),
                found => found,
            },
        }
    }
}

/// The separator that ends first; of those that end there the shortest.
fn seek(
    buffer: &[u8],
    separators: &[impl AsRef<[u8]>],
    limit: usize,
    scanned: &mut usize,
) -> Option<Found> {
    let longest = separators.iter().map(|one| one.as_ref().len()).max().unwrap_or(1);
    let ends = separators.iter().filter_map(|separator| {
        let separator = separator.as_ref();
        let at = *scanned + memmem::find(&buffer[*scanned..], separator)?;
        Some((at + separator.len(), at))
    });
    if let Some((end, start)) = ends.min_by_key(|&(end, start)| (end, Reverse(start))) {
        if start > limit {
            return Some(Found::Overrun { found: true, consumed: start });
        }
        return Some(Found::Take(end));
    }
    *scanned = (buffer.len() + 1).saturating_sub(longest);
    (*scanned > limit).then_some(Found::Overrun { found: false, consumed: *scanned })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(goal: &Goal, buffer: &[u8], ended: bool) -> Option<Found> {
        goal.look(buffer, ended, &mut 0)
    }

    fn until(separators: &[&str], limit: usize) -> Goal {
        let separators = separators.iter().map(|one| one.as_bytes().to_vec()).collect();
        Goal::Until { separators, limit }
    }

    #[test]
    fn plain_reads() {
        assert_eq!(look(&Goal::Some(3), b"", false), None);
        assert_eq!(look(&Goal::Some(0), b"", false), Some(Found::Take(0)));
        assert_eq!(look(&Goal::Some(3), b"", true), Some(Found::Take(0)));
        assert_eq!(look(&Goal::Some(3), b"abcd", false), Some(Found::Take(3)));
        assert_eq!(look(&Goal::Exactly(3), b"ab", false), None);
        let cut = Found::Incomplete { expected: Some(3) };
        assert_eq!(look(&Goal::Exactly(3), b"ab", true), Some(cut));
        assert_eq!(look(&Goal::All, b"ab", false), None);
        assert_eq!(look(&Goal::All, b"ab", true), Some(Found::Take(2)));
    }

    #[test]
    fn separators() {
        let line = Goal::Line { limit: 4 };
        assert_eq!(look(&line, b"ab", false), None);
        assert_eq!(look(&line, b"ab\ncd", false), Some(Found::Take(3)));
        assert_eq!(look(&line, b"ab", true), Some(Found::Take(2)));
        let beyond = Found::Overrun { found: true, consumed: 5 };
        assert_eq!(look(&line, b"abcde\n", false), Some(beyond));
        let without = Found::Overrun { found: false, consumed: 5 };
        assert_eq!(look(&line, b"abcde", false), Some(without));
        let goal = until(&["--", "-x-"], 100);
        assert_eq!(look(&goal, b"a-x--", false), Some(Found::Take(4)));
        assert_eq!(look(&goal, b"a-", true), Some(Found::Incomplete { expected: None }));
        let shorter = Some(Found::Overrun { found: true, consumed: 9 });
        assert_eq!(look(&until(&["ome dataA", "A"], 3), b"some dataA", false), shorter);
    }

    #[test]
    fn a_separator_may_come_in_pieces() {
        let (goal, mut scanned) = (until(&["\r\n\r\n"], 100), 0);
        let text = b"head\r\n\r\n";
        for length in 0..text.len() {
            assert_eq!(goal.look(&text[..length], false, &mut scanned), None);
        }
        assert_eq!(goal.look(text, false, &mut scanned), Some(Found::Take(8)));
    }
}
