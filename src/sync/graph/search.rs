//! Whether a wait can end: `mod.rs` says what that means and why the answer is right.
//!
//! The way from a wait to the owner of its lock, to what that waits for, and so on, is followed
//! step by step while each needs one party; nearly always it ends at an owner that runs. Where a
//! wait needs several, or a task's loop may be blocked, all that can be reached is collected and
//! reduced: what can go on is crossed out until nothing more can be.

use super::Needs;
use super::waits::State;
use crate::sync::party::Party;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Whether a wait can end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// By a party that runs.
    Runs,
    /// Only by one that plait doesn't know of: what it needs, at last, has no owner.
    Alone,
    /// Not: these wait for each other, each for the next.
    Never(Vec<Party>),
    /// By this task, of which it is not known whether its loop is blocked.
    AskFor(Party),
}

/// Where tasks live that are in no wait: their event loops.
pub type Homes = HashMap<Party, usize>;

pub fn judge(state: &State, start: Party) -> Verdict {
    let (mut at, mut path) = (start, Vec::new());
    loop {
        let Some(wait) = state.by_party.get(&at) else {
            let decided = !at.is_task() || state.blocked.is_empty();
            return if decided { Verdict::Runs } else { judge_all(state, start, &Homes::new()) };
        };
        if at.is_task() && !state.blocked.is_empty() {
            return judge_all(state, start, &Homes::new());
        }
        match wait.needs() {
            Needs::Nothing | Needs::Outside => return Verdict::Runs,
            Needs::Anyone => return Verdict::Alone,
            Needs::All(_) | Needs::Any(_) => return judge_all(state, start, &Homes::new()),
            Needs::One(next) => {
                path.push(at);
                if next == start {
                    return Verdict::Never(path);
                }
                if path.contains(&next) {
                    return Verdict::Runs; // a cycle, but not the start's: it was told before
                }
                at = next;
            }
        }
    }
}

/// How a node can go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Itself,
    All,
    Any,
    Anyone,
}

struct Node {
    party: Party,
    by: By,
    needs: Vec<usize>,
    /// The thread without which the task cannot run.
    thread: Option<usize>,
}

/// As `judge`, with what is known of tasks that are in no wait.
pub fn judge_all(state: &State, start: Party, homes: &Homes) -> Verdict {
    let nodes = match collect(state, start, homes) {
        Ok(nodes) => nodes,
        Err(unknown) => return Verdict::AskFor(unknown),
    };
    if reduce(&nodes, false)[0] {
        return Verdict::Runs;
    }
    let goes_on = reduce(&nodes, true);
    if goes_on[0] {
        return Verdict::Alone;
    }
    match cycle(&nodes, &goes_on) {
        Some(parties) => Verdict::Never(parties),
        None => Verdict::Runs, // it waits for a cycle of others, which was told before
    }
}

/// All that the start, which is the first node, may depend on.
fn collect(state: &State, start: Party, homes: &Homes) -> Result<Vec<Node>, Party> {
    fn index(of: Party, parties: &mut Vec<Party>, places: &mut HashMap<Party, usize>) -> usize {
        *places.entry(of).or_insert_with(|| {
            parties.push(of);
            parties.len() - 1
        })
    }

    let (mut parties, mut places) = (vec![start], HashMap::from([(start, 0)]));
    let mut nodes: Vec<Node> = Vec::new();
    while nodes.len() < parties.len() {
        let party = parties[nodes.len()];
        let wait = state.by_party.get(&party);
        let (by, needed) = match wait.map(super::waits::Wait::needs) {
            None | Some(Needs::Nothing | Needs::Outside) => (By::Itself, Vec::new()),
            Some(Needs::One(one)) => (By::All, vec![one]),
            Some(Needs::All(all)) => (By::All, all),
            Some(Needs::Any(any)) => (By::Any, any),
            Some(Needs::Anyone) => (By::Anyone, Vec::new()),
        };
        let mut thread = None;
        if party.is_task() && !state.blocked.is_empty() {
            let home = wait.map(|wait| wait.entry.event_loop).or(homes.get(&party).copied());
            let home = home.ok_or(party)?;
            thread = state.thread_blocking(home);
        }
        let thread = thread.map(|thread| index(thread, &mut parties, &mut places));
        let needs = needed.into_iter().map(|one| index(one, &mut parties, &mut places)).collect();
        nodes.push(Node { party, by, needs, thread });
    }
    Ok(nodes)
}

/// Which nodes can go on, if `anyone` can.
fn reduce(nodes: &[Node], anyone: bool) -> Vec<bool> {
    let mut goes_on = vec![false; nodes.len()];
    loop {
        let mut changed = false;
        for (at, node) in nodes.iter().enumerate() {
            if goes_on[at] || node.thread.is_some_and(|thread| !goes_on[thread]) {
                continue;
            }
            let now = match node.by {
                By::Itself => true,
                By::All => node.needs.iter().all(|&one| goes_on[one]),
                By::Any => node.needs.iter().any(|&one| goes_on[one]),
                By::Anyone => anyone,
            };
            goes_on[at] = now;
            changed |= now;
        }
        if !changed {
            return goes_on;
        }
    }
}

/// The shortest way from the start back to it, through nodes that cannot go on.
fn cycle(nodes: &[Node], goes_on: &[bool]) -> Option<Vec<Party>> {
    let mut from = vec![usize::MAX; nodes.len()];
    let mut queue = VecDeque::from([0]);
    while let Some(at) = queue.pop_front() {
        for &next in nodes[at].needs.iter().chain(&nodes[at].thread) {
            if next == 0 {
                let mut parties = Vec::new();
                let mut back = at;
                while back != 0 {
                    parties.push(nodes[back].party);
                    back = from[back];
                }
                parties.push(nodes[0].party);
                parties.reverse();
                return Some(parties);
            }
            if !goes_on[next] && from[next] == usize::MAX {
                from[next] = at;
                queue.push_back(next);
            }
        }
    }
    None
}
