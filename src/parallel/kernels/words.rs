//! How often each word occurs, words as `str.split()` finds them.
//!
//! Python's whitespace is Unicode's White_Space plus the separators U+001C to U+001F. Texts
//! are the interpreter's own UTF-8, borrowed, and counted words borrow from them in turn:
//! nothing is copied until the result is built.

use crate::parallel::pool::Cancel;
use hashbrown::HashMap;
use rayon::prelude::*;

pub type Counts<'a> = HashMap<&'a str, u64>;

/// Characters a task: longer texts are cut at whitespace.
const BLOCK: usize = 64 * 1024;

fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Cuts a text into pieces of about `BLOCK` bytes, each ending at whitespace.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::with_capacity(text.len() / BLOCK + 1);
    while text.len() > BLOCK {
        let from = text.ceil_char_boundary(BLOCK);
        let Some(space) = text[from..].find(is_space) else { break };
        let (piece, rest) = text.split_at(from + space);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

/// The words of all texts together, each with the number of times it occurs.
pub fn count<'a>(texts: &[&'a str], cancel: &Cancel) -> Counts<'a> {
    texts
        .par_iter()
        .flat_map_iter(|text| pieces(text))
        .fold(Counts::new, |mut counts, piece| {
            if !cancel.is_set() {
                for word in piece.split(is_space).filter(|word| !word.is_empty()) {
                    *counts.entry(word).or_insert(0) += 1;
                }
            }
            counts
        })
        .reduce(Counts::new, |a, b| {
            let (mut large, small) = if a.len() < b.len() { (b, a) } else { (a, b) };
            for (word, n) in small {
                *large.entry(word).or_insert(0) += n;
            }
            large
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_python_splits() {
        let texts = ["a b\u{1c}a", "\u{a0}a\u{3000}b\u{200b}c\n"];
        let counts = count(&texts, &Cancel::default());
        let expected = [("a", 3), ("b", 1), ("b\u{200b}c", 1)];
        assert_eq!(counts, expected.into_iter().collect());
    }

    #[test]
    fn a_long_text_cut_into_pieces_counts_the_same() {
        let text = "wörd other ".repeat(BLOCK / 4);
        let counts = count(&[&text], &Cancel::default());
        assert_eq!(counts["wörd"], BLOCK as u64 / 4);
        assert_eq!(counts.len(), 2);
    }
}
