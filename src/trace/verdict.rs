//! What a thread did between two looks at it: pure arithmetic on what was read.
//!
//! The CPU clock tells how long it ran, to the microsecond, but not when. So a stretch of time is
//! split: what the thread is at now comes last, what it was at before comes first. Parts that are
//! a small share of the stretch are carried over to the next one rather than drawn; so the sums
//! stay those of the CPU clock.

use super::proc::{Call, Doing};

/// As `plait.lab.timeline.STATES`, in its order; `Processor` is shown as idle, with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    Gil = 0,
    Nogil = 1,
    WaitGil = 2,
    WaitLock = 3,
    WaitIo = 4,
    Sleep = 5,
    Idle = 6,
    Unknown = 7,
    /// It could run, but another thread or program has its processor.
    Processor = 8,
}

pub const STATES: usize = 9;

/// A state and what it is about: a lock's word, a system call's number, who has the GIL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct What {
    pub state: State,
    pub detail: u64,
}

impl What {
    pub fn of(state: State) -> Self {
        Self { state, detail: 0 }
    }
}

/// A thread as it was at the last look.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// What it was at then.
    pub what: What,
    /// CPU time that was not drawn yet, or drawn already (negative), in nanoseconds.
    pub carried: i64,
}

/// What was read now.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Since the last look, in nanoseconds.
    pub elapsed: u64,
    pub cpu: u64,
    /// Of the rest, for how long it waited for a processor, if that was asked for.
    pub delay: u64,
    /// What it sleeps in, if it sleeps.
    pub asleep: Option<What>,
    /// Whether it runs, or could.
    pub runs: bool,
    /// What its running is: with or without the GIL.
    pub running: State,
}

/// What is a smaller share of a stretch than one in so many is carried over.
const LEAST: i64 = 8;

/// The parts of the stretch, first to last, with their lengths, which sum to `look.elapsed`.
pub fn parts(before: &mut Before, look: Look) -> [(What, u64); 3] {
    let whole = i64::try_from(look.elapsed).unwrap_or(i64::MAX);
    let wanted = before.carried.saturating_add_unsigned(look.cpu);
    let least = whole / LEAST;
    let on = if wanted < least { 0 } else { wanted.min(whole) };
    let on = if whole - on < least { whole } else { on };
    // Clocks of different processors may differ by a little: no debt grows beyond a stretch.
    before.carried = (wanted - on).clamp(-whole, whole);
    let off = whole - on;
    let on_what = What::of(look.running);
    let nothing = (What::of(State::Unknown), 0);
    let length = |part: i64| part.unsigned_abs();
    let result = if let (false, Some(now)) = (look.runs, look.asleep) {
        // It ran first, unless it slept all the time.
        [(on_what, length(on)), (now, length(off)), nothing]
    } else {
        let delay = i64::try_from(look.delay).unwrap_or(i64::MAX).min(off);
        let waits_for_processor = What::of(State::Processor);
        let (rest, late) = match before.what.state {
            // It ran before and it runs now: what is missing was taken from it.
            State::Gil | State::Nogil | State::Processor if look.runs => (0, off),
            _ if look.runs => (off - delay, delay),
            _ => (off, 0),
        };
        let earlier = if look.runs { before.what } else { What::of(State::Unknown) };
        [(earlier, length(rest)), (waits_for_processor, length(late)), (on_what, length(on))]
    };
    before.what = if look.runs && on == 0 {
        What::of(State::Processor)
    } else if look.runs {
        on_what
    } else {
        look.asleep.unwrap_or(What::of(State::Unknown))
    };
    result
}

/// What a thread sleeps in. `waits_for_gil`: whether a word is the GIL's; `idles`: it is a worker
/// whose waits are for work.
pub fn asleep(
    doing: Doing,
    idles: bool,
    waits_for_gil: impl Fn(u64) -> bool,
    holder: u64,
) -> Option<What> {
    let Doing::Sleeps(call) = doing else {
        return (doing == Doing::Faults).then_some(What::of(State::WaitIo));
    };
    let (state, detail) = match call {
        Call::Futex(word) if waits_for_gil(word) => (State::WaitGil, holder),
        Call::Futex(_) | Call::Io(_) if idles => (State::Idle, 0),
        Call::Futex(word) => (State::WaitLock, word),
        Call::Sleep => (State::Sleep, 0),
        Call::Child => (State::Idle, 0),
        Call::Io(number) => (State::WaitIo, number.unsigned_abs()),
    };
    Some(What { state, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn look(cpu: u64) -> Look {
        let running = State::Gil;
        Look { elapsed: MS, cpu, delay: 0, asleep: None, runs: true, running }
    }

    fn sleeps(cpu: u64) -> Look {
        Look { asleep: Some(What::of(State::Sleep)), runs: false, ..look(cpu) }
    }

    fn drawn(parts: [(What, u64); 3]) -> Vec<(State, u64)> {
        let some = parts.into_iter().filter(|(_, length)| *length > 0);
        some.map(|(what, length)| (what.state, length)).collect()
    }

    #[test]
    fn a_stretch_is_split_where_the_clock_says() {
        let mut before = Before { what: What::of(State::Sleep), carried: 0 };
        assert_eq!(drawn(parts(&mut before, sleeps(0))), [(State::Sleep, MS)]);
        let woke = parts(&mut before, look(MS / 4));
        assert_eq!(drawn(woke), [(State::Sleep, MS * 3 / 4), (State::Gil, MS / 4)]);
        assert_eq!(drawn(parts(&mut before, look(MS))), [(State::Gil, MS)]);
        let slept = parts(&mut before, sleeps(MS / 2));
        assert_eq!(drawn(slept), [(State::Gil, MS / 2), (State::Sleep, MS / 2)]);
    }

    #[test]
    fn who_runs_before_and_after_was_kept_from_it() {
        let mut before = Before { what: What::of(State::Gil), carried: 0 };
        let kept = parts(&mut before, look(MS / 2));
        assert_eq!(drawn(kept), [(State::Processor, MS / 2), (State::Gil, MS / 2)]);
        assert_eq!(drawn(parts(&mut before, look(0))), [(State::Processor, MS)]);
        assert_eq!(before.what.state, State::Processor);
    }

    #[test]
    fn small_parts_add_up() {
        let mut before = Before { what: What::of(State::Sleep), carried: 0 };
        let mut on = 0;
        for _ in 0..1000 {
            let all = drawn(parts(&mut before, sleeps(MS / 20)));
            on += all.iter().filter(|part| part.0 == State::Gil).map(|part| part.1).sum::<u64>();
            assert_eq!(all.iter().map(|part| part.1).sum::<u64>(), MS);
        }
        assert!(on.abs_diff(1000 * MS / 20) <= MS, "{on}");
    }

    #[test]
    fn calls_and_what_they_wait_for() {
        let mine = |word| word == 8;
        let of = |call, idles| asleep(Doing::Sleeps(call), idles, mine, 5).unwrap();
        assert_eq!(of(Call::Futex(8), true), What { state: State::WaitGil, detail: 5 });
        assert_eq!(of(Call::Futex(16), false), What { state: State::WaitLock, detail: 16 });
        assert_eq!(of(Call::Futex(16), true).state, State::Idle);
        assert_eq!(of(Call::Io(3), false), What { state: State::WaitIo, detail: 3 });
        assert_eq!(of(Call::Child, false).state, State::Idle);
        assert_eq!(asleep(Doing::Runs, false, mine, 0), None);
        assert_eq!(asleep(Doing::Faults, false, mine, 0).unwrap().state, State::WaitIo);
    }
}
