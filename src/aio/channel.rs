//! A queue of messages between threads, coroutines and Rust tasks, which can be closed.
//!
//! Algorithm: two semaphores count the free places and the messages (the textbook's bounded
//! buffer); the messages are in a deque, behind a mutex that is held for a few instructions.
//! Who waits, waits for a permit: threads and tasks in one line, each in its turn, and what is
//! granted to one that goes away (time limit, signal, cancellation) is passed on by the
//! semaphore. Closing gives both semaphores more permits than will ever be asked for, so that
//! all wake, and find it closed.
//!
//! A permit without a message is possible, after a message was taken back; its holder waits
//! again. A message that comes back finds its place taken: then one place less is freed later.
//!
//! Memory order: the mutex's and the semaphores'.

use crate::error::locked;
use crate::sync::line::Acquire;
use crate::sync::observe::Refused;
use crate::sync::party::Party;
use crate::sync::semaphore::{MOST, Semaphore};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// More than there are messages or waiters, and so few that they can be added up.
const PLENTY: u64 = 1 << 40;

pub struct Channel<T> {
    places: Arc<Semaphore>,
    messages: Arc<Semaphore>,
    state: Mutex<State<T>>,
}

struct State<T> {
    queue: VecDeque<T>,
    closed: bool,
    /// Places that messages which came back have without having been given them.
    owed: u64,
}

/// Why there is no message, or no place for one.
#[derive(Debug)]
pub enum Gone {
    Closed,
    Refused(Refused),
}

impl From<Refused> for Gone {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl<T> Channel<T> {
    /// `None`: as many as there is memory for.
    pub fn new(capacity: Option<u64>) -> Self {
        let capacity = capacity.map_or(PLENTY, |capacity| capacity.min(PLENTY));
        let semaphore = |permits| Arc::new(Semaphore::new(permits, MOST));
        let state = Mutex::new(State { queue: VecDeque::new(), closed: false, owed: 0 });
        Self { places: semaphore(capacity), messages: semaphore(0), state }
    }

    pub fn len(&self) -> usize {
        locked(&self.state).queue.len()
    }

    pub fn is_closed(&self) -> bool {
        locked(&self.state).closed
    }

    /// No more messages; those that are there can be received.
    pub fn close(&self) {
        if !std::mem::replace(&mut locked(&self.state).closed, true) {
            // Neither can have come near its bound.
            let _ = self.places.release(PLENTY);
            let _ = self.messages.release(PLENTY);
        }
    }

    pub fn try_reserve(&self) -> bool {
        self.places.try_acquire()
    }

    /// Waits for a place; [`Self::fill`] it, or [`Self::free`] it.
    pub fn reserve(&self, party: Party, timed: bool) -> Acquire<Arc<Semaphore>> {
        Acquire::new(Arc::clone(&self.places), party, (), timed)
    }

    /// A place is not used.
    pub fn free(&self) {
        let _ = self.places.release(1); // it was one of those
    }

    /// Puts a message into a place that was reserved; gives it back if the channel is closed.
    pub fn fill(&self, message: T) -> Result<(), T> {
        let mut state = locked(&self.state);
        if state.closed {
            return Err(message);
        }
        state.queue.push_back(message);
        drop(state);
        let _ = self.messages.release(1); // there are as many as messages
        Ok(())
    }

    /// `Ok(None)`: there is none now.
    pub fn try_receive(&self) -> Result<Option<T>, Gone> {
        while self.messages.try_acquire() {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Waits for a message.
    pub async fn receive(&self, party: Party, timed: bool) -> Result<T, Gone> {
        loop {
            Acquire::new(Arc::clone(&self.messages), party, (), timed).await?;
            if let Some(message) = self.take()? {
                return Ok(message);
            }
        }
    }

    /// The message that a permit stands for.
    fn take(&self) -> Result<Option<T>, Gone> {
        let mut state = locked(&self.state);
        let Some(message) = state.queue.pop_front() else {
            return if state.closed { Err(Gone::Closed) } else { Ok(None) };
        };
        let frees = state.owed == 0;
        state.owed = state.owed.saturating_sub(1);
        drop(state);
        if frees {
            self.free();
        }
        Ok(Some(message))
    }

    /// A message that was taken and reached nobody is the next one again.
    pub fn put_back(&self, message: T) {
        let has_place = self.places.try_acquire();
        let mut state = locked(&self.state);
        state.queue.push_front(message);
        state.owed += u64::from(!has_place);
        drop(state);
        let _ = self.messages.release(1);
    }

    /// For the garbage collector; `None`: a thread is in the midst of a change.
    pub fn try_each<E>(&self, mut look: impl FnMut(&T) -> Result<(), E>) -> Option<Result<(), E>> {
        let state = self.state.try_lock().ok()?;
        Some(state.queue.iter().try_for_each(&mut look))
    }

    /// What is in it, taken out without a word to anybody.
    pub fn clear(&self) -> Option<VecDeque<T>> {
        Some(std::mem::take(&mut self.state.try_lock().ok()?.queue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::park::{Ended, block_on};
    use std::collections::BTreeSet;
    use std::pin::pin;
    use std::time::{Duration, Instant};

    fn wait<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            if let Ended::Ready(value) = block_on(future.as_mut(), None) {
                return value;
            }
        }
    }

    fn send<T>(channel: &Channel<T>, message: T) -> Result<(), T> {
        wait(channel.reserve(Party::this_thread(), false)).unwrap();
        channel.fill(message)
    }

    #[test]
    fn every_message_is_received_once() {
        let channel = Channel::new(Some(3));
        let seen = std::thread::scope(|scope| {
            let receivers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = Vec::new();
                        while let Ok(message) = wait(channel.receive(Party::this_thread(), false)) {
                            seen.push(message);
                        }
                        seen
                    })
                })
                .collect();
            let senders: Vec<_> = (0..3)
                .map(|sender| {
                    let channel = &channel;
                    scope.spawn(move || {
                        (0..200).for_each(|n| send(channel, sender * 200 + n).unwrap());
                    })
                })
                .collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            channel.close();
            receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(seen.len(), 600);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (0..600).collect());
    }

    #[test]
    fn a_closed_one_gives_what_it_has_and_takes_no_more() {
        let channel = Channel::new(None);
        send(&channel, 1).unwrap();
        channel.close();
        channel.close();
        assert_eq!(send(&channel, 2), Err(2));
        assert_eq!(channel.try_receive().unwrap(), Some(1));
        assert!(matches!(channel.try_receive(), Err(Gone::Closed)));
    }

    #[test]
    fn a_message_that_comes_back_is_the_next_and_its_place_is_counted_once() {
        let channel = Channel::new(Some(1));
        send(&channel, 1).unwrap();
        let message = channel.try_receive().unwrap().unwrap();
        send(&channel, 2).unwrap(); // into the place that became free
        channel.put_back(message);
        assert!(!channel.try_reserve());
        assert_eq!(channel.try_receive().unwrap(), Some(1));
        assert!(!channel.try_reserve());
        assert_eq!(channel.try_receive().unwrap(), Some(2));
        assert!(channel.try_reserve());
        assert!(!channel.try_reserve());
    }

    #[test]
    fn a_wait_that_ends_by_its_limit_takes_nothing() {
        let channel = Channel::<u8>::new(Some(1));
        {
            let mut receive = pin!(channel.receive(Party::this_thread(), true));
            let deadline = Instant::now() + Duration::from_millis(2);
            while !matches!(block_on(receive.as_mut(), Some(deadline)), Ended::TimedOut) {}
        }
        send(&channel, 5).unwrap();
        assert_eq!(channel.try_receive().unwrap(), Some(5));
    }
}
