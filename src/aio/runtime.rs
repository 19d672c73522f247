//! Plait's own tokio runtime: built on first use, built anew in a forked child, shut down
//! at exit. Its threads run Rust only, so none of them can meet the interpreter's end.

use crate::error::{AioError, locked};
use crate::forked::Forked;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// How long exit waits for threads that are in a blocking call (a name look-up).
const PATIENCE: Duration = Duration::from_millis(200);

struct Owned {
    runtime: Runtime,
    open: Arc<RwLock<bool>>,
}

static RUNTIME: Forked<Mutex<Option<Owned>>> = Forked::new(Mutex::default, forget_after_fork);

extern "C" fn forget_after_fork() {
    RUNTIME.forget();
}

/// Whether so many threads can be started now: tokio panics where they can't.
fn try_threads(count: usize) -> std::io::Result<()> {
    let goes_on = RwLock::new(());
    let waits = goes_on.write();
    std::thread::scope(|scope| {
        let tried = (0..count).try_for_each(|_| {
            let builder = std::thread::Builder::new();
            builder.spawn_scoped(scope, || drop(goes_on.read())).map(drop)
        });
        drop(waits);
        tried
    })
}

fn build() -> Result<Owned, AioError> {
    let started = AtomicUsize::new(0);
    let workers = crate::parallel::cpus::cpu_count();
    try_threads(workers).map_err(AioError::Runtime)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .thread_name_fn(move || format!("plait-tokio-{}", started.fetch_add(1, Ordering::Relaxed)))
        .on_thread_start(crate::os::block_signals)
        .build()
        .map_err(AioError::Runtime)?;
    Ok(Owned { runtime, open: Arc::new(RwLock::new(true)) })
}

fn with<T>(use_it: impl FnOnce(&mut Owned) -> T) -> Result<T, AioError> {
    let mut slot = locked(RUNTIME.get());
    let owned = match slot.take() {
        Some(owned) => owned,
        None => build()?,
    };
    Ok(use_it(slot.insert(owned)))
}

pub fn handle() -> Result<Handle, AioError> {
    with(|owned| owned.runtime.handle().clone())
}

/// Ends the threads; waits for them for a moment only. A later use builds a new runtime.
pub fn shut_down() {
    let owned = locked(RUNTIME.get()).take();
    if let Some(owned) = owned {
        *owned.open.write().unwrap_or_else(PoisonError::into_inner) = false;
        owned.runtime.shutdown_timeout(PATIENCE);
    }
}

/// A timer; it may be polled on any thread. Tokio takes "for ever" as some decades.
pub fn sleep(duration: Duration) -> Result<Timer, AioError> {
    with(|owned| {
        let _context = owned.runtime.enter();
        let sleep = Box::pin(tokio::time::sleep(duration));
        Timer { sleep, open: Arc::clone(&owned.open), waited: false }
    })
}

/// Tokio's own timer panics when it is polled after its runtime was shut down, as a loop in a
/// daemon thread may do while the interpreter exits. This one never ends then.
///
/// Nor does it end when it is polled first, though time may be up by then (setting a timer wakes
/// a thread, which may take the processor): who sleeps expects that others come to run.
pub struct Timer {
    sleep: Pin<Box<tokio::time::Sleep>>,
    open: Arc<RwLock<bool>>,
    waited: bool,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { sleep, open, waited } = &mut *self;
        let open = open.read().unwrap_or_else(PoisonError::into_inner);
        let first = !std::mem::replace(waited, true);
        if !*open || sleep.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if first {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// Runs a future on the runtime's threads; dropping what this gives back stops it.
pub fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<Spawned<T>, AioError> {
    Ok(Spawned(handle()?.spawn(future)))
}

/// Runs what may take long, or wait, on a thread of its own.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Spawned<T>, AioError> {
    Ok(Spawned(handle()?.spawn_blocking(work)))
}

pub struct Spawned<T>(JoinHandle<T>);

impl<T> Future for Spawned<T> {
    type Output = Result<T, AioError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(value)) => Poll::Ready(Ok(value)),
            Poll::Ready(Err(error)) if error.is_panic() => {
                Poll::Ready(Err(AioError::Panicked(error.to_string())))
            }
            // Stopped by the shut-down at exit: like a timer, it never ends.
            _ => Poll::Pending,
        }
    }
}

impl<T> Drop for Spawned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There is one runtime, and these tests shut it down: they take turns.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn serves_again_after_a_shut_down() {
        let _turn = locked(&TURN);
        for _ in 0..2 {
            let answer = spawn(async {
                sleep(Duration::from_millis(1)).unwrap().await;
                42
            });
            assert_eq!(handle().unwrap().block_on(answer.unwrap()).unwrap(), 42);
            shut_down();
        }
    }

    #[test]
    fn a_timer_outlives_its_runtime_quietly() {
        let _turn = locked(&TURN);
        let mut timer = sleep(Duration::from_millis(1)).unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut timer).poll(&mut context).is_pending());
        shut_down();
        assert!(Pin::new(&mut timer).poll(&mut context).is_pending());
    }

    #[test]
    fn a_timer_that_is_up_at_once_ends_a_poll_later() {
        let _turn = locked(&TURN);
        let mut timer = sleep(Duration::ZERO).unwrap();
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut timer).poll(&mut context).is_pending());
        while Pin::new(&mut timer).poll(&mut context).is_pending() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn dropping_a_spawned_future_stops_it() {
        let _turn = locked(&TURN);
        let (alive, dropped) = tokio::sync::oneshot::channel::<()>();
        drop(spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        }));
        assert!(handle().unwrap().block_on(dropped).is_err());
    }
}
