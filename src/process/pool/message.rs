//! What goes through the rings: tasks and orders to a worker, results and output from it.

/// What a record in a worker's task ring asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Call with a tuple of arguments and a dict of keywords.
    Call = 1,
    /// Call with one argument an item.
    Map = 2,
    /// Call with a tuple of arguments an item.
    StarMap = 3,
    /// Remember a function.
    Function = 4,
    /// Forget it.
    Forget = 5,
    /// Remember a set of context variables.
    Context = 6,
    /// Leave.
    Exit = 7,
    /// Forget a set of context variables.
    ForgetContext = 8,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Call,
        Self::Map,
        Self::StarMap,
        Self::Function,
        Self::Forget,
        Self::Context,
        Self::Exit,
        Self::ForgetContext,
    ];

    fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    pub fn is_task(self) -> bool {
        matches!(self, Self::Call | Self::Map | Self::StarMap)
    }
}

/// The task may be run again: its arguments are copies, which it may change.
pub const COPY: u32 = 1;

/// A task record's fixed part. Its items follow, each with its length (u32) before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub flags: u32,
    pub function: u32,
    pub context: u32,
    /// How many items.
    pub count: u32,
    /// Bytes that an item may use, 0: any.
    pub memory: u64,
    /// The number of a trace's arrow to it, which the engine gives; 0: it is not traced.
    pub flow: u64,
}

impl Head {
    pub const BYTES: usize = 36;

    pub fn order(kind: Kind, number: u32) -> Self {
        Self { kind, flags: 0, function: number, context: number, count: 0, memory: 0, flow: 0 }
    }

    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.kind as u32, self.flags, self.function, self.context, self.count];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[20..28].copy_from_slice(&self.memory.to_le_bytes());
        bytes[28..].copy_from_slice(&self.flow.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(Self::BYTES)?;
        let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
        let head = Self {
            kind: Kind::from_number(word(0)?)?,
            flags: word(4)?,
            function: word(8)?,
            context: word(12)?,
            count: word(16)?,
            memory: u64::from_le_bytes(head[20..28].try_into().ok()?),
            flow: u64::from_le_bytes(head[28..].try_into().ok()?),
        };
        Some((head, rest))
    }
}

/// Cuts an item off the front; `None`: there is no whole one.
pub fn next_item<'a>(items: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = items.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (item, rest) = rest.split_at_checked(length)?;
    *items = rest;
    Some(item)
}

/// Appends an item that `write` produces.
pub fn add_item<E>(
    items: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = items.len();
    items.extend_from_slice(&[0; 4]);
    if let Err(error) = write(items) {
        items.truncate(start);
        return Err(error);
    }
    let length = (items.len() - start - 4) as u32;
    items[start..start + 4].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// What a record in a worker's result ring is: its word there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reply {
    /// An item's value.
    Value = 1,
    /// An item's exception.
    Error = 2,
    /// Text for stdout.
    Stdout = 3,
    /// Text for stderr.
    Stderr = 4,
    /// The initializer failed, and how.
    Broken = 5,
}

impl Reply {
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Value, Self::Error, Self::Stdout, Self::Stderr, Self::Broken]
            .into_iter()
            .find(|reply| *reply as u32 == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_the_journey() {
        for kind in Kind::ALL {
            let head = Head {
                kind,
                flags: COPY,
                function: 3,
                context: 4,
                count: 5,
                memory: 1 << 40,
                flow: 7,
            };
            let mut bytes = head.to_bytes().to_vec();
            bytes.extend_from_slice(b"rest");
            assert_eq!(Head::from_bytes(&bytes), Some((head, &b"rest"[..])));
        }
        assert_eq!(Head::from_bytes(&[0; 40]), None);
        assert_eq!(Head::from_bytes(&[1; 20]), None);
    }

    #[test]
    fn items_are_cut_where_they_were_joined() {
        let mut items = Vec::new();
        for text in ["one", "", "three"] {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(text.as_bytes());
                Ok::<(), ()>(())
            };
            add_item(&mut items, write).unwrap();
        }
        assert_eq!(add_item(&mut items, |_| Err(1)), Err(1));
        let mut rest = &items[..];
        assert_eq!(next_item(&mut rest), Some(&b"one"[..]));
        assert_eq!(next_item(&mut rest), Some(&b""[..]));
        assert_eq!(next_item(&mut rest), Some(&b"three"[..]));
        assert_eq!(next_item(&mut rest), None);
        assert_eq!(next_item(&mut &[9, 0, 0, 0, 1][..]), None);
    }
}
