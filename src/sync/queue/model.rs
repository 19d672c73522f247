//! Models for loom: threads and tasks that put, get and give up, with every interleaving.
//!
//! A thread parks by `loom::thread::park`, so loom finds each lost wake-up as a deadlock.

use super::channel::{Channel, Order, Refused, Want};
use super::heap::{Claim, Compare};
use super::line::{Seat, Wakes};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::{self, Thread};

struct Sleeper {
    thread: Thread,
    told: Arc<AtomicBool>,
    is_thread: bool,
}

impl Wakes for Sleeper {
    fn wake(self) {
        self.told.store(true, Ordering::Release);
        self.thread.unpark();
    }

    fn is_thread(&self) -> bool {
        self.is_thread
    }

    fn can_run(&self) -> bool {
        true
    }
}

type Queue = Arc<Channel<u32, Sleeper>>;

fn queue(limit: usize) -> Queue {
    let queue = Channel::new(Order::First);
    queue.set_limit(limit);
    Arc::new(queue)
}

/// Waits once; false: there was something to look for.
fn wait(queue: &Queue, want: Want, seat: &mut Option<Seat>, is_thread: bool) {
    let told = Arc::new(AtomicBool::new(false));
    let sleeper = || Sleeper { thread: thread::current(), told: Arc::clone(&told), is_thread };
    if queue.join(want, seat, sleeper) {
        while !told.load(Ordering::Acquire) {
            thread::park();
        }
    }
}

fn get(queue: &Queue, is_thread: bool) -> Result<u32, Refused> {
    match queue.try_get() {
        Err(Refused::Empty) => {}
        done => return done,
    }
    let mut seat = None;
    loop {
        match queue.look(Want::Item, &mut seat) {
            Ok(true) => return queue.take_held(seat),
            Ok(false) => wait(queue, Want::Item, &mut seat, is_thread),
            Err(refused) => {
                queue.leave(Want::Item, seat);
                return Err(refused);
            }
        }
    }
}

fn put(queue: &Queue, item: u32) {
    let Err((Refused::Full, item)) = queue.try_put(item) else { return };
    let mut seat = None;
    while !queue.look(Want::Slot, &mut seat).unwrap() {
        wait(queue, Want::Slot, &mut seat, true);
    }
    queue.put_held(seat, item).unwrap();
}

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(body);
}

#[test]
fn each_item_reaches_one_getter() {
    model(|| {
        let queue = queue(0);
        let getters = [true, false].map(|is_thread| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || get(&queue, is_thread).unwrap())
        });
        put(&queue, 1);
        put(&queue, 2);
        let got = getters.map(|getter| getter.join().unwrap());
        assert_eq!(got[0] + got[1], 3);
        assert!(got[0] != got[1]);
    });
}

#[test]
fn a_bounded_queue_passes_everything_in_order() {
    model(|| {
        let queue = queue(1);
        let other = Arc::clone(&queue);
        let putter = thread::spawn(move || (1..=3).for_each(|item| put(&other, item)));
        let got: Vec<u32> = (0..3).map(|_| get(&queue, true).unwrap()).collect();
        assert_eq!(got, [1, 2, 3]);
        putter.join().unwrap();
    });
}

#[test]
fn who_gives_up_passes_its_wake_up_on() {
    model(|| {
        let queue = queue(0);
        let other = Arc::clone(&queue);
        let getter = thread::spawn(move || get(&other, true).unwrap());
        let other = Arc::clone(&queue);
        let quitter = thread::spawn(move || {
            let mut seat = None;
            let (thread, told) = (thread::current(), Arc::new(AtomicBool::new(false)));
            other.join(Want::Item, &mut seat, || Sleeper { thread, told, is_thread: true });
            other.leave(Want::Item, seat);
        });
        put(&queue, 7);
        assert_eq!(getter.join().unwrap(), 7);
        quitter.join().unwrap();
    });
}

#[test]
fn shutdown_ends_all_waits() {
    model(|| {
        let queue = queue(0);
        let getters = [(); 2].map(|()| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || get(&queue, true))
        });
        put(&queue, 1);
        queue.shut_down(false);
        let got = getters.map(|getter| getter.join().unwrap());
        assert!(got.contains(&Ok(1)) && got.contains(&Err(Refused::ShutDown)));
    });
}

#[test]
fn join_ends_when_all_is_done() {
    model(|| {
        let queue = queue(0);
        put(&queue, 1);
        let other = Arc::clone(&queue);
        let worker = thread::spawn(move || {
            get(&other, true).unwrap();
            assert!(other.task_done());
        });
        let mut seat = None;
        while !queue.look(Want::Done, &mut seat).unwrap() {
            wait(&queue, Want::Done, &mut seat, true);
        }
        queue.leave(Want::Done, seat);
        assert_eq!(queue.unfinished(), 0);
        worker.join().unwrap();
    });
}

struct Numbers;

impl Compare<u32> for Numbers {
    type Error = ();

    fn less(&mut self, left: &u32, right: &u32) -> Result<bool, ()> {
        thread::yield_now();
        Ok(left < right)
    }

    fn quick(&mut self, _: &u32, _: &u32) -> Option<bool> {
        None
    }

    fn share(&self, item: &u32) -> u32 {
        *item
    }
}

fn claim(queue: &Queue, me: u64) {
    let mut seat = None;
    loop {
        let told = Arc::new(AtomicBool::new(false));
        let (thread, flag) = (thread::current(), Arc::clone(&told));
        match queue.claim(me, &mut seat, || Sleeper { thread, told: flag, is_thread: true }) {
            Claim::Mine => return,
            Claim::Reentered => unreachable!(),
            Claim::Waits => {
                while !told.load(Ordering::Acquire) {
                    thread::park();
                }
            }
        }
    }
}

#[test]
fn the_least_item_is_found_while_others_put() {
    model(|| {
        let queue: Queue = Arc::new(Channel::new(Order::Least));
        let putters = [1, 2].map(|item| {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                let mut seat = None;
                assert!(queue.look(Want::Slot, &mut seat).unwrap());
                claim(&queue, u64::from(item));
                queue.put_least(&mut seat, item, &mut Numbers).unwrap();
                queue.unclaim();
            })
        });
        putters.into_iter().for_each(|putter| putter.join().unwrap());
        for expected in [1, 2] {
            let mut seat = None;
            assert!(queue.look(Want::Item, &mut seat).unwrap());
            claim(&queue, 9);
            assert_eq!(queue.take_least(&mut seat, &mut Numbers), Ok(expected));
            queue.unclaim();
        }
    });
}
