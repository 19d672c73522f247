//! The engine with workers that are threads: what is lost, done twice or late would show here.

use super::defined::Defined;
use super::driver::{Attended, Pool};
use super::engine::Engine;
use super::link::RingLink;
use super::message::{Head, Kind, Reply, add_item, next_item};
use super::shared::{Board, Control, Meter, now_ns};
use super::state::{Lender, Options, Outcome, Reason, Receiver, Task};
use super::station::Station;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Notes the outcome of each index.
#[derive(Clone)]
struct Notes(Arc<(Mutex<Vec<Vec<String>>>, AtomicUsize)>);

impl Receiver for Notes {
    type Memory = ();

    fn deliver(&self, index: u64, outcome: Outcome<'_>, _: Option<&()>) -> bool {
        let text = match outcome {
            Outcome::Value(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Outcome::Error(_) => "error".to_owned(),
            Outcome::Lost(loss) => match loss.reason {
                Reason::Died { .. } => "died".to_owned(),
                Reason::TimedOut => "late".to_owned(),
                Reason::Cancelled => "cancelled".to_owned(),
                Reason::Broken(_) | Reason::NoWorker(_) => "broken".to_owned(),
            },
        };
        self.0.0.lock().unwrap()[index as usize].push(text);
        self.0.1.fetch_add(1, Ordering::SeqCst);
        false
    }
}

impl Notes {
    fn new(count: usize) -> Self {
        Self(Arc::new((Mutex::new(vec![Vec::new(); count]), AtomicUsize::new(0))))
    }

    fn count(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

struct NoBlocks;

impl Lender for NoBlocks {
    type Block = u8;
    fn lend(&self, _: u8, _: u32) {}
    fn unlend(&self, _: u8, _: u32) {}
    fn release(&self, _: u8) {}
    fn reclaim(&self, _: u32) {}
}

type TestPool = Pool<Notes, NoBlocks>;

fn pool(workers: usize) -> (TestPool, std::os::fd::OwnedFd) {
    let file = Board::create().unwrap();
    let engine = Engine::new(NoBlocks, workers, None);
    (Pool::new(engine, Board::new(&file).unwrap()).unwrap(), file)
}

/// Adds a worker; its own end.
fn worker(pool: &TestPool, board: &std::os::fd::OwnedFd, key: u32) -> Station {
    let file = Control::create().unwrap();
    let link = RingLink::new(Control::new(&file).unwrap());
    pool.engine.add_worker(key, Box::new(link), ());
    let bell = pool.bell.try_clone().unwrap();
    Station::new(Control::new(&file).unwrap(), Board::new(board).unwrap(), bell)
}

/// Echoes items; "die" ends it there and then, "hang" makes it wait for the flag.
fn work(station: &Station, hang: &AtomicBool) {
    station.ready();
    let mut record = Vec::new();
    loop {
        let Some(received) = station.next(&mut record).unwrap() else {
            station.wait().unwrap();
            continue;
        };
        let mut items = &record[Head::BYTES..];
        let began = now_ns();
        for number in 0..received.head.count {
            let item = next_item(&mut items).unwrap();
            station.started(&received, number, now_ns());
            match item {
                b"die" => return,
                b"hang" => {
                    while !hang.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    return;
                }
                _ => {}
            }
            while !station.send(Reply::Value, item) {
                station.wait_for_room().unwrap();
            }
            station.finished();
        }
        let now = now_ns();
        let tasks = u64::from(received.head.count);
        station.meter(Meter { tasks, busy_ns: now - began, ..Meter::default() });
        station.done(&received);
        if received.head.kind == Kind::Exit {
            return;
        }
        if !station.is_idle() {
            station.announce_in_time(now);
        }
    }
}

fn submit(
    pool: &TestPool,
    notes: &Notes,
    first: u64,
    texts: &[&str],
    options: Option<Options>,
) -> u64 {
    let mut items = Vec::new();
    for text in texts {
        add_item(&mut items, |out| {
            out.extend_from_slice(text.as_bytes());
            Ok::<(), ()>(())
        })
        .unwrap();
    }
    let head = Head { count: texts.len() as u32, ..Head::order(Kind::Map, 0) };
    pool.engine.submit(task(notes, first, head, options), &items).unwrap()
}

fn task(notes: &Notes, first: u64, head: Head, options: Option<Options>) -> Task<Notes, u8> {
    Task {
        serial: 0,
        receiver: notes.clone(),
        first,
        head,
        names: [None, None],
        items: Vec::new(),
        blocks: Vec::new(),
        options: options.map(Arc::new),
        attempts: 0,
    }
}

fn wait(pool: &TestPool, notes: &Notes, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let attended = pool.attend(&|| notes.count() >= count, Some(deadline));
    assert_eq!(attended, Attended::Done, "{} of {count}", notes.count());
}

#[test]
fn each_item_is_done_once_whatever_the_batches() {
    let (pool, board) = pool(3);
    let hang = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for key in 0..3 {
            let station = worker(&pool, &board, key);
            let hang = &hang;
            scope.spawn(move || work(&station, hang));
        }
        let count = 30_000;
        let notes = Notes::new(count);
        let texts: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let mut first = 0;
        while first < count {
            let size = (first % 7 + 1).min(count - first);
            let batch: Vec<&str> = texts[first..first + size].iter().map(|text| &**text).collect();
            submit(&pool, &notes, first as u64, &batch, None);
            first += size;
        }
        wait(&pool, &notes, count);
        let seen = notes.0.0.lock().unwrap();
        assert!(seen.iter().zip(&texts).all(|(seen, text)| seen.len() == 1 && seen[0] == **text));
        pool.engine.close();
        pool.engine.pump();
    });
}

#[test]
fn a_death_costs_the_item_that_was_worked_on() {
    let (pool, board) = pool(1);
    let hang = AtomicBool::new(false);
    let notes = Notes::new(9);
    submit(&pool, &notes, 0, &["a", "b", "die", "c"], None);
    submit(&pool, &notes, 4, &["d"], None);
    submit(&pool, &notes, 5, &["die"], Some(Options { retries: 1, ..Options::default() }));
    submit(&pool, &notes, 6, &["e", "f", "g"], None);
    for key in 0..4 {
        let station = worker(&pool, &board, key);
        if key == 3 {
            pool.engine.close();
        }
        std::thread::scope(|scope| {
            scope.spawn(|| work(&station, &hang));
            while key == 3 && notes.count() < 9 {
                pool.engine.pump();
            }
            pool.engine.pump();
        });
        pool.ended(key, -9);
    }
    let seen = notes.0.0.lock().unwrap();
    let seen: Vec<String> = seen.iter().map(|texts| texts.join(",")).collect();
    assert_eq!(seen, ["a", "b", "died", "c", "d", "died", "e", "f", "g"]);
    assert!(pool.engine.is_finished());
}

#[test]
fn a_worker_that_has_ended_is_done_with_when_what_it_printed_is_written() {
    let (pool, board) = pool(1);
    let notes = Notes::new(1);
    let station = worker(&pool, &board, 0);
    submit(&pool, &notes, 0, &["a"], None);
    let mut record = Vec::new();
    assert!(station.next(&mut record).unwrap().is_some());
    assert!(station.send(Reply::Stdout, b"text") && station.send(Reply::Value, b"a"));
    pool.ended(0, 0);
    assert_eq!(notes.count(), 0);
    let output = pool.engine.next_output().unwrap();
    assert_eq!(output.text, b"text");
    drop(output);
    assert!(pool.engine.written());
    assert_eq!(notes.count(), 1);
    assert!(pool.engine.workers().is_empty());
}

#[test]
fn what_waits_behind_a_long_task_goes_to_another_worker() {
    let (pool, board) = pool(2);
    let hang = AtomicBool::new(false);
    let notes = Notes::new(6);
    let first = worker(&pool, &board, 0);
    std::thread::scope(|scope| {
        submit(&pool, &notes, 0, &["hang"], None);
        for index in 1..6 {
            submit(&pool, &notes, index, &["x"], None);
        }
        scope.spawn(|| work(&first, &hang));
        let second = worker(&pool, &board, 1);
        let hang = &hang;
        scope.spawn(move || work(&second, hang));
        wait(&pool, &notes, 5);
        let serial = 1;
        while !pool.engine.has_begun(serial) {
            std::thread::yield_now();
        }
        assert!(!pool.engine.withdraw(serial));
        assert!(pool.engine.stop(serial));
        hang.store(true, Ordering::SeqCst);
        pool.ended(0, -9);
        assert_eq!(notes.0.0.lock().unwrap()[0], ["cancelled"]);
        pool.engine.close();
        pool.engine.pump();
    });
}

#[test]
fn a_task_that_was_withdrawn_never_runs() {
    let (pool, board) = pool(1);
    let notes = Notes::new(3);
    let hang = AtomicBool::new(false);
    let serials: Vec<u64> =
        (0..3).map(|index| submit(&pool, &notes, index, &["x"], None)).collect();
    assert!(pool.engine.withdraw(serials[1])); // pending
    let station = worker(&pool, &board, 0);
    assert!(pool.engine.withdraw(serials[2])); // in the ring
    std::thread::scope(|scope| {
        scope.spawn(|| work(&station, &hang));
        wait(&pool, &notes, 1);
        assert!(!pool.engine.withdraw(serials[0]));
        pool.engine.close();
        pool.engine.pump();
    });
    let lengths: Vec<usize> = notes.0.0.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(lengths, [1, 0, 0]);
}

#[test]
fn a_time_limit_ends_the_worker() {
    let (pool, board) = pool(1);
    let notes = Notes::new(2);
    let hang = AtomicBool::new(false);
    let station = worker(&pool, &board, 0);
    let limit = Options { timeout_ns: Some(20_000_000), ..Options::default() };
    std::thread::scope(|scope| {
        submit(&pool, &notes, 0, &["hang"], Some(limit));
        submit(&pool, &notes, 1, &["x"], None);
        scope.spawn(|| work(&station, &hang));
        while !pool.engine.has_duties() {
            assert!(pool.drive());
        }
        hang.store(true, Ordering::SeqCst);
    });
    pool.ended(0, -9);
    assert_eq!(notes.0.0.lock().unwrap()[0], ["late"]);
    assert_eq!(pool.engine.outstanding(), 1);
}

#[test]
fn a_function_is_forgotten_with_the_last_task_that_names_it() {
    let (pool, board) = pool(1);
    let defined = Defined::function(7, "seven", pool.engine.forgotten());
    pool.engine.define_function(7, b"its code".to_vec(), Vec::new());
    let notes = Notes::new(1);
    let head = Head { function: 7, count: 1, ..Head::order(Kind::Map, 0) };
    let task = Task { names: [Some(defined), None], ..task(&notes, 0, head, None) };
    pool.engine.submit(task, &[1, 0, 0, 0, b'x']).unwrap();
    pool.pump(); // it names it, and there is no worker yet
    let station = worker(&pool, &board, 0);
    let mut record = Vec::new();
    let mut next = || {
        let received = station.next(&mut record).unwrap().unwrap();
        assert_eq!(received.head.function, 7);
        station.done(&received);
        received.head.kind
    };
    assert_eq!([next(), next()], [Kind::Function, Kind::Map]);
    assert!(station.send(Reply::Value, b"x"));
    wait(&pool, &notes, 1);
    pool.pump();
    assert_eq!(next(), Kind::Forget);
}
