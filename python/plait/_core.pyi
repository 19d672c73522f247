"""
`plait._core`: private. Users import `plait`, whose Python modules carry the
documentation and the types.
"""

from _typeshed import Incomplete, SupportsGetItem
from os import PathLike
from typing import Any, SupportsFloat, SupportsIndex, final
from typing_extensions import disjoint_base

__all__ = ["AtomicInt", "AtomicRef", "Attempt", "Awaitable", "Barrier", "BaseChannel", "BaseFuture", "BaseQueue", "BaseSimpleQueue", "BaseThreadPool", "BoundedSemaphore", "Bridge", "BridgeKeeper", "CachedThread", "Child", "Condition", "Door", "Event", "Job", "JoinsProcess", "Keeper", "Lane", "Lock", "PoolDefinition", "PoolMap", "PoolThread", "PoolWorker", "ProcessPool", "Promise", "QueueSeat", "RLock", "RWLock", "RWLockAccess", "Rehearsal", "Response", "RunEnd", "Sampler", "Semaphore", "Sockets", "Steps", "StreamOperation", "StreamReader", "StreamWriter", "TaskOptions", "TlsConnection", "TlsSettings", "Visitors", "Watch", "WatchNews", "Worker", "Zygote", "add_together", "apply_attributes", "await_frame", "await_future", "blocked", "close_threads", "count_primes", "cpu_count", "crc32", "end_watch", "end_with_parent", "find_deadlocks", "fork_sibling", "gather", "http_get", "install_shortcuts", "lock_inversions", "locks_held", "look_for_deadlock", "mandelbrot", "memfd", "name_thread", "next_request", "parent_pidfd", "parse_host", "pause_watch", "probe_calls", "probe_panicking_call", "probe_panics", "probe_ready", "probe_spawned", "read_file", "read_tape", "reap", "receive_frame", "record_places", "resolve_host", "resume_watch", "send_frame", "send_hello", "shut_down", "signal_process", "sleep", "surroundings", "to_thread", "unblock", "untimed_waits", "watch_begin", "watch_end", "watch_pause", "word_count", "write_file"]

@disjoint_base
class AtomicInt:
    """
    A whole number that threads change without a lock.
    """
    def __index__(self, /) -> int: ...
    def __int__(self, /) -> int: ...
    def __new__(cls, value: SupportsIndex = 0, /) -> AtomicInt: ...
    def __repr__(self, /) -> str: ...
    def add(self, /, n: SupportsIndex = 1) -> int:
        """
        Adds; returns the sum.
        """
    def compare_exchange(self, /, expected: SupportsIndex, new: SupportsIndex) -> bool:
        """
        Sets it to `new` if it is `expected`; returns whether it was.
        """
    def exchange(self, /, value: SupportsIndex) -> int:
        """
        Sets it; returns what it was.
        """
    def fetch_add(self, /, n: SupportsIndex = 1) -> int:
        """
        Adds; returns what it was before.
        """
    def fetch_max(self, /, n: SupportsIndex) -> int:
        """
        Makes it the larger of its value and `n`; returns what it was before.
        """
    def fetch_min(self, /, n: SupportsIndex) -> int:
        """
        Makes it the smaller of its value and `n`; returns what it was before.
        """
    def load(self, /) -> int:
        """
        Its value.
        """
    def store(self, /, value: SupportsIndex) -> None:
        """
        Sets it.
        """
    def sub(self, /, n: SupportsIndex = 1) -> int:
        """
        Subtracts; returns the difference.
        """

@disjoint_base
class AtomicRef:
    """
    A reference that threads change without a lock of theirs.
    """
    def __new__(cls, value: Any | None = None, /) -> AtomicRef: ...
    def __repr__(self, /) -> str: ...
    def compare_exchange(self, /, expected: Any, new: Any) -> bool:
        """
        Has it refer to `new` if it refers to `expected`, that very object; returns whether it did.
        """
    def exchange(self, /, value: Any) -> Any:
        """
        Has it refer to another one; returns the former.
        """
    def load(self, /) -> Any:
        """
        The object that it refers to.
        """
    def store(self, /, value: Any) -> None:
        """
        Has it refer to another one.
        """

@final
class Attempt:
    """
    An attempt at a task with a time limit; see `plait._deadlines`.
    """
    def expire(self, /, error: Any) -> None:
        """
        Its time is over: `error` is what its future fails with, if it isn't tried again.
        """
    @property
    def name(self, /) -> str | None: ...
    @property
    def timeout(self, /) -> float:
        """
        When its time is over; `time.monotonic`'s seconds are counted by who watches.
        """

@final
class Awaitable:
    def __await__(self, /) -> Awaitable: ...
    def __iter__(self, /) -> Awaitable: ...
    def __next__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    @property
    def _asyncio_future_blocking(self, /) -> bool | None:
        """
        None until it is started: `asyncio.isfuture` then takes it for a coroutine.
        """
    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, /, blocking: bool) -> None: ...
    def _make_cancelled_error(self, /) -> BaseException: ...
    def add_done_callback(self, /, fn: Any, *, context: Any | None = None) -> None: ...
    def cancel(self, /, msg: Any | None = None) -> bool:
        """
        Ends it: the Rust future is dropped, or told to end. False if it was done.
        """
    def cancelled(self, /) -> bool: ...
    def close(self, /) -> None:
        """
        As a coroutine's: what is called when the coroutine that awaits it is closed.
        """
    def done(self, /) -> bool: ...
    def exception(self, /) -> BaseException | None: ...
    def get_loop(self, /) -> Any: ...
    def remove_done_callback(self, /, fn: Any) -> int:
        """
        How many were removed.
        """
    def result(self, /) -> Any: ...
    def send(self, /, value: Any) -> Any:
        """
        As a coroutine's; the value is not looked at.
        """
    def start(self, /) -> Awaitable:
        """
        Starts it now, without waiting for it.
        """
    def take_callbacks(self, /) -> list[tuple[Any, Any]]:
        """
        What `plait._bridge.call_back` is to call, each with its context.
        """
    def throw(self, /, typ: Any, val: Any | None = None, tb: Any | None = None) -> None: ...

@disjoint_base
class Barrier:
    """
    A meeting point of a fixed number of threads and tasks: `threading.Barrier` for both.

    Unlike the standard library's, the barrier is ready for the next round at once: nobody waits
    for those who have passed to be on their way.

    Args:
        parties: how many have to meet.
        action: called by the last to come, before the others go on.
        timeout: seconds, for calls of `wait` that give none.

    Raises:
        ValueError: ``parties`` is below 1.

    >>> from plait import Barrier, Thread
    >>> barrier = Barrier(2, action=lambda: print("met"))
    >>> Thread(target=barrier.wait).start(); _ = barrier.wait()
    met
    """
    def __init__(self, /, parties: SupportsIndex, action: Any | None = None, timeout: Incomplete | None = None) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> Barrier:
        """
        Subclasses may take other arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    @property
    def _engine(self, /) -> int: ...
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    def abort(self, /) -> None:
        """
        Break it: who waits, and who comes, gets `threading.BrokenBarrierError`.
        """
    @property
    def broken(self, /) -> bool:
        """
        Whether it is broken.
        """
    @property
    def n_waiting(self, /) -> int:
        """
        How many are waiting.
        """
    @property
    def parties(self, /) -> int:
        """
        How many have to meet.
        """
    def reset(self, /) -> None:
        """
        Make it as new; who waits gets `threading.BrokenBarrierError`.
        """
    def wait(self, /, timeout: Incomplete | None = None) -> int:
        """
        Wait until all are there.

        Args:
            timeout: the most seconds to wait; None: the barrier's own. When they are over, the
                barrier is broken.

        Returns:
            As the how-many-th the caller came, from 0.

        Raises:
            threading.BrokenBarrierError: it was broken or reset, or time was up.
        """
    def wait_async(self, /) -> Awaitable:
        """
        Wait in a coroutine until all are there; gives as the how-many-th it came.

        A task that is cancelled is no longer there; the barrier stays whole.
        """

@disjoint_base
class BaseChannel:
    """
    The base of `plait.aio.Channel`.
    """
    def __aiter__(self, /) -> BaseChannel: ...
    def __anext__(self, /) -> Awaitable: ...
    def __bool__(self, /) -> bool:
        """
        Also when it is empty.
        """
    def __iter__(self, /) -> BaseChannel: ...
    def __len__(self, /) -> int: ...
    def __new__(cls, /, capacity: SupportsIndex | None) -> BaseChannel: ...
    def __next__(self, /) -> Any: ...
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _fill(self, /, value: Any) -> None: ...
    def _reserve(self, /) -> Awaitable:
        """
        Waits for a place, which is to be filled.
        """
    def _send_at_once(self, /, value: Any) -> bool:
        """
        Puts a message in, if there is a place: whether there was.
        """
    @property
    def capacity(self, /) -> int | None: ...
    def close(self, /) -> None:
        """
        Ends it for senders, and for receivers once it is empty.
        """
    @property
    def closed(self, /) -> bool: ...
    def recv(self, /, timeout: Incomplete | None = None) -> Any:
        """
        Takes the oldest message; waits for one, so many seconds at most.
        """
    def recv_async(self, /) -> Awaitable:
        """
        Takes the oldest message, in a coroutine.
        """
    def send(self, /, value: Any, timeout: Incomplete | None = None) -> None:
        """
        Puts a message in; waits for a place, so many seconds at most.
        """
    def try_recv(self, /) -> Any:
        """
        Takes the oldest message, if there is one.
        """
    def try_send(self, /, value: Any) -> None:
        """
        Puts a message in if there is a place.
        """

@disjoint_base
class BaseFuture:
    """
    A future: the Python half.
    """
    def __delattr__(self, name: Any, /) -> None: ...
    def __init__(self, /) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> BaseFuture:
        """
        Subclasses may take arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def __setattr__(self, name: Any, value: Any, /) -> None: ...
    def _attributes(self, /) -> Any:
        """
        Its `__dict__`, which could take it into a cycle: see `untracked`.
        """
    @property
    def _condition(self, /) -> Any: ...
    @_condition.setter
    def _condition(self, /, value: Any) -> None: ...
    @property
    def _done_callbacks(self, /) -> list[Any]:
        """
        A copy: to change them, assign.
        """
    @_done_callbacks.setter
    def _done_callbacks(self, /, value: SupportsGetItem[int, Any]) -> None: ...
    @property
    def _exception(self, /) -> Any | None: ...
    @_exception.setter
    def _exception(self, /, value: Any) -> None: ...
    def _get_snapshot(self, /) -> tuple[bool, bool, Any | None, Any | None]:
        """
        `(done, cancelled, result, exception)`, for newer asyncio.
        """
    def _invoke_callbacks(self, /) -> None: ...
    @property
    def _result(self, /) -> Any | None: ...
    @_result.setter
    def _result(self, /, value: Any) -> None: ...
    @property
    def _state(self, /) -> str: ...
    @_state.setter
    def _state(self, /, value: str) -> None: ...
    @property
    def _waiters(self, /) -> Any: ...
    @_waiters.setter
    def _waiters(self, /, value: Any) -> None: ...
    def add_done_callback(self, /, fn: Any) -> None:
        """
        Has `fn(future)` called when it is done, by the thread that completes it; at once if it
        is done. Exceptions that it raises are logged.
        """
    def cancel(self, /, *, running: bool = False) -> bool:
        """
        Cancels the task if it has not begun; with `running=True` ends one that has, where the
        executor can. False: it runs, or is done.
        """
    def cancelled(self, /) -> bool:
        """
        Whether it was cancelled.
        """
    def done(self, /) -> bool:
        """
        Whether it was cancelled or its task has ended.
        """
    def exception(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> Any | None:
        """
        What the task raised, or None; waited for `timeout` seconds at most.
        """
    def result(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> Any:
        """
        The task's value, waited for `timeout` seconds at most; raises what the task raised.
        """
    def running(self, /) -> bool:
        """
        Whether its task has begun and is not done.
        """
    def set_exception(self, /, exception: Any) -> None:
        """
        For executors: what the task raised.
        """
    def set_result(self, /, result: Any) -> None:
        """
        For executors: the task's value.
        """
    def set_running_or_notify_cancel(self, /) -> bool:
        """
        For executors: the task begins (True), or was cancelled and must not run (False).
        """

@disjoint_base
class BaseQueue:
    def __init__(self, /, maxsize: Any | None = None) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> BaseQueue:
        """
        Subclasses may take other arguments in their `__init__`.
        """
    def __reduce_ex__(self, /, _protocol: SupportsIndex | None = None) -> Any: ...
    def _done_now(self, /, seat: QueueSeat | None = None) -> Any | None:
        """
        For coroutines: None if no task is unfinished, or what to do as with `_put_now`.
        """
    def _done_seat(self, /) -> QueueSeat: ...
    @property
    def _engine(self, /) -> int:
        """
        By which the wait-for graph names it.
        """
    def _get(self, /) -> Any: ...
    def _get_now(self, /, seat: QueueSeat | None = None) -> Any:
        """
        For coroutines: an item, or what to do as with `_put_now`.
        """
    def _hand_over(self, /, opened: Any) -> list[Any] | None:
        """
        For `open_queue`: the queue is served by this from now on. Its items so far; None: it was
        open before.
        """
    def _init(self, /, maxsize: Any) -> None: ...
    def _item_seat(self, /) -> QueueSeat: ...
    @property
    def _opened(self, /) -> Any: ...
    def _put(self, /, item: Any) -> None: ...
    def _put_now(self, /, item: Any, seat: QueueSeat | None = None) -> Any | None:
        """
        For coroutines: puts if it can at once (None), else says what to do: with the class
        `QueueSeat` to wait with one, with the class `BaseQueue` that the queue is open.
        """
    def _qsize(self, /) -> Any: ...
    def _slot_seat(self, /) -> QueueSeat:
        """
        A coroutine's place in the line for slots, for items, or for there to be nothing undone.
        """
    def _waiting(self, /, what: str) -> int:
        """
        For tests: how many wait for an "item", a "slot" or for all to be "done".
        """
    @property
    def all_tasks_done(self, /) -> Any: ...
    def empty(self, /) -> bool: ...
    def full(self, /) -> bool: ...
    def get(self, /, block: "bool" = ..., timeout: SupportsFloat | SupportsIndex | None = None) -> Any: ...
    def get_nowait(self, /) -> Any: ...
    @property
    def is_shutdown(self, /) -> bool: ...
    @is_shutdown.setter
    def is_shutdown(self, /, shut: bool) -> None: ...
    def join(self, /) -> None: ...
    @property
    def maxsize(self, /) -> int: ...
    @maxsize.setter
    def maxsize(self, /, maxsize: Any) -> None: ...
    @property
    def mutex(self, /) -> Any: ...
    @property
    def not_empty(self, /) -> Any: ...
    @property
    def not_full(self, /) -> Any: ...
    def put(self, /, item: Any, block: "bool" = ..., timeout: SupportsFloat | SupportsIndex | None = None) -> None: ...
    def put_nowait(self, /, item: Any) -> None: ...
    def qsize(self, /) -> Any: ...
    @property
    def queue(self, /) -> Any: ...
    @queue.setter
    def queue(self, /, queue: Any) -> None: ...
    def shutdown(self, /, immediate: "bool" = ...) -> None: ...
    def task_done(self, /) -> None: ...
    @property
    def unfinished_tasks(self, /) -> int: ...
    @unfinished_tasks.setter
    def unfinished_tasks(self, /, unfinished: SupportsIndex) -> None: ...

@disjoint_base
class BaseSimpleQueue:
    def __init__(self, /) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> BaseSimpleQueue:
        """
        Subclasses may take arguments in their `__init__`.
        """
    def __reduce_ex__(self, /, _protocol: SupportsIndex | None = None) -> Any: ...
    @property
    def _engine(self, /) -> int:
        """
        By which the wait-for graph names it.
        """
    def _get_now(self, /, seat: QueueSeat | None = None) -> Any: ...
    def _item_seat(self, /) -> QueueSeat: ...
    def empty(self, /) -> bool: ...
    def get(self, /, block: "bool" = ..., timeout: SupportsFloat | SupportsIndex | None = None) -> Any: ...
    def get_nowait(self, /) -> Any: ...
    def put(self, /, item: Any, block: "bool | None" = None, timeout: "float | None" = None) -> None:
        """
        There always is room: `block` and `timeout` are not looked at.
        """
    def put_nowait(self, /, item: Any) -> None: ...
    def qsize(self, /) -> int: ...

@disjoint_base
class BaseThreadPool:
    """
    The base class of `plait.ThreadPoolExecutor`; its other base is the standard library's.
    """
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> BaseThreadPool:
        """
        Subclasses may take arguments in their `__init__`.
        """
    def _close(self, /, cancel: bool) -> None:
        """
        Takes no more tasks; `cancel`: those that have not begun are cancelled.
        """
    def _counts(self, /) -> list[tuple[int, int, float, float, float, bool]]:
        """
        Of each thread: ident, tasks, seconds in tasks, without one, and since it began, idle.
        """
    @property
    def _ended(self, /) -> str | None:
        """
        Why it takes no tasks: "closed", "broken", or None.
        """
    def _is_here(self, /) -> bool:
        """
        Whether the calling thread is one of its own.
        """
    def _open(self, /, limit: SupportsIndex, starter: Any, future: type) -> None:
        """
        Begins; once more in a forked child, which has none of the threads.
        """
    def _submit_limited(self, /, function: "object", args: "tuple[object, ...]", kwargs: "dict[str, object] | None", timeout: "float | None", retries: "int", name: "str | None") -> Any:
        """
        The same, with limits.
        """
    @property
    def _waiting(self, /) -> int:
        """
        Tasks that wait for a thread.
        """
    def submit(self, fn: Any, /, *args: "object", **kwargs: "object") -> Any:
        """
        Schedules `fn(*args, **kwargs)` in a thread; its future.
        """

class BoundedSemaphore(Semaphore):
    """
    A semaphore that never has more permits than at first; see `Semaphore`.

    >>> from plait import BoundedSemaphore
    >>> BoundedSemaphore(1).release()
    Traceback (most recent call last):
    ValueError: Semaphore released too many times
    """
    def __init__(self, /, value: SupportsIndex = 1) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> BoundedSemaphore:
        """
        Subclasses may take other arguments in their `__init__`.
        """

@final
class Bridge:
    def __iter__(self, /) -> Bridge:
        """
        Begins a round: takes the wake-up.
        """
    def __new__(cls, /) -> Bridge: ...
    def __next__(self, /) -> tuple[Any, Any, Any]:
        """
        The next `(callback, context, arguments)`; polls futures until one is due.
        """
    def call(self, /, callback: Any, context: Any, arguments: "tuple[object, ...]") -> None:
        """
        Has the loop call `callback(*arguments)` in that context; from any thread. Many calls
        share one wake-up.
        """
    def count_waiting(self, /) -> int:
        """
        How many awaitables are not done yet.
        """
    def fileno(self, /) -> int:
        """
        The descriptor that the loop watches; -1 after the loop was closed.
        """
    def keeper(self, /) -> BridgeKeeper:
        """
        What closes the pipe when it goes: the loop has the only reference.
        """
    def ring(self, /) -> None:
        """
        Asks for another round: this one ended early.
        """

@final
class BridgeKeeper:
    """
    Closes a bridge's pipe when the loop lets go of it.
    """

@final
class CachedThread:
    """
    A cached thread that waits for its run.
    """
    def __new__(cls, /, stack: SupportsIndex) -> CachedThread:
        """
        Reserves a thread with a stack of this size, 0 for the system's default. Raises
        RuntimeError if there is none and none can be made.
        """
    @property
    def end(self, /) -> RunEnd: ...
    @property
    def ident(self, /) -> int: ...
    @property
    def native_id(self, /) -> int: ...
    def run(self, /, function: Any, argument: Any, name: str) -> None:
        """
        Has the thread call `function(argument)`, under a name that the system shows.
        """

@final
class Child:
    """
    A child of this process. One that is dropped before its release, as when ^C ends start()
    half-way, is killed and waited for: nobody else knows of it.
    """
    @property
    def channel(self, /) -> int:
        """
        The channel's end, as a descriptor; -1 after close().
        """
    def close(self, /) -> None:
        """
        Closes both descriptors; ends the child if it was not released.
        """
    @property
    def generation(self, /) -> int:
        """
        The number of the state that it started with.
        """
    @property
    def pid(self, /) -> int: ...
    def release(self, /) -> None:
        """
        From now on somebody knows of it: it goes on when this object is gone.
        """
    def send(self, /, head: bytes, body: bytes, fds: SupportsGetItem[int, SupportsIndex]) -> None:
        """
        Sends the payload, upon which it runs. BrokenPipeError: it has died, and ran nothing.
        """
    @property
    def sentinel(self, /) -> int:
        """
        A pidfd, readable when it has ended; -1 after close().
        """

@disjoint_base
class Condition:
    """
    A condition variable: `threading.Condition` and `asyncio.Condition` in one.

    Threads and tasks wait in one line, and either may notify.

    Args:
        lock: what it waits under; None: a new `plait.RLock`. Any other lock will do for threads,
            coroutines need a `plait.Lock` or `plait.RLock`.

    >>> import asyncio
    >>> from plait import Condition, Thread
    >>> changed, stock = Condition(), []
    >>> def produce():
    ...     with changed:
    ...         stock.append("apple")
    ...         changed.notify()
    >>> async def main():
    ...     async with changed:
    ...         Thread(target=produce).start()
    ...         await changed.wait_for_async(lambda: stock)
    ...         return stock.pop()
    >>> asyncio.run(main())
    'apple'
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *exc: "object") -> Any: ...
    def __enter__(self, /) -> Any: ...
    def __exit__(self, /, kind: Any | None = None, error: Any | None = None, traceback: Any | None = None) -> Any: ...
    def __init__(self, /, lock: Any | None = None) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> Condition:
        """
        Subclasses may take other arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _acquire_restore(self, /, state: Any) -> None: ...
    def _at_fork_reinit(self, /) -> None: ...
    @property
    def _engine(self, /) -> int: ...
    def _is_owned(self, /) -> bool: ...
    @property
    def _lock(self, /) -> Any: ...
    def _release_save(self, /) -> Any:
        """
        Of its lock, as the standard library's.
        """
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    @property
    def acquire(self, /) -> Any:
        """
        The lock's own `acquire`.
        """
    @property
    def acquire_async(self, /) -> Any:
        """
        The lock's own `acquire_async`.
        """
    def locked(self, /) -> Any:
        """
        Whether anybody has the lock.
        """
    def notify(self, /, n: SupportsIndex = 1) -> None:
        """
        Notify the first ``n`` who wait, threads or tasks.

        Raises:
            RuntimeError: the caller has not taken the lock.
        """
    def notifyAll(self, /) -> None:
        """
        An old name of `notify_all`.
        """
    def notify_all(self, /) -> None:
        """
        Notify all who wait.
        """
    @property
    def release(self, /) -> Any:
        """
        The lock's own `release`.
        """
    def wait(self, /, timeout: Incomplete | None = None) -> bool:
        """
        Let the lock go, wait to be notified, and take the lock again.

        However it ends, the lock is held again: an exception of a signal handler (^C) comes
        once it is.

        Args:
            timeout: the most seconds to wait to be notified; None: no limit.

        Returns:
            Whether it was notified.

        Raises:
            RuntimeError: the caller has not taken the lock.
            ValueError: the timeout is nan.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def wait_async(self, /) -> Awaitable:
        """
        Wait to be notified, in a coroutine that has taken the lock; gives True.

        A task that is cancelled goes on once it has the lock again, so that ``async with`` can
        let it go; a notification that it had got goes to the next.
        """
    def wait_for(self, /, predicate: Any, timeout: Incomplete | None = None) -> Any:
        """
        Wait until ``predicate()`` is true.

        Args:
            predicate: called with the lock held, at first and after each notification.
            timeout: the most seconds to wait; None: no limit.

        Returns:
            What it returned last: something false when time was up.

        Raises:
            RuntimeError: the caller has not taken the lock.
        """
    def wait_for_async(self, /, predicate: Any) -> Awaitable:
        """
        Wait in a coroutine until ``predicate()``, a plain function, is true; gives its value.
        """

@final
class Door:
    """
    A listening socket.
    """
    def fileno(self, /) -> int:
        """
        -1 when it is closed.
        """
    def look_again(self, /) -> None: ...

@disjoint_base
class Event:
    """
    A flag that threads and coroutines wait for: `threading.Event` and `asyncio.Event` in one.

    >>> import asyncio
    >>> from plait import Event, Thread
    >>> event = Event()
    >>> async def main():
    ...     Thread(target=event.set).start()
    ...     return await event.wait_async()
    >>> asyncio.run(main()), event.wait()
    (True, True)
    """
    def __init__(self, /) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> Event:
        """
        Subclasses may take arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _at_fork_reinit(self, /) -> None: ...
    @property
    def _cond(self, /) -> Any: ...
    @property
    def _engine(self, /) -> int: ...
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    def clear(self, /) -> None:
        """
        Take the flag back.
        """
    def is_set(self, /) -> bool:
        """
        Whether the flag is set.
        """
    def set(self, /) -> None:
        """
        Set the flag; all who wait go on.
        """
    def wait(self, /, timeout: Incomplete | None = None) -> bool:
        """
        Wait until the flag is set.

        Args:
            timeout: the most seconds to wait; None: no limit; 0 or less: don't wait.

        Returns:
            Whether it was set.

        Raises:
            ValueError: the timeout is nan.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def wait_async(self, /) -> Awaitable:
        """
        Wait in a coroutine until the flag is set; gives True.
        """

@final
class Job:
    """
    A job that a worker has taken.
    """
    def fail(self, /, error: Any) -> bool:
        """
        False for a posted job, whose exception nobody else will report.
        """
    def succeed(self, /, value: Any) -> None: ...
    def take(self, /) -> Any:
        """
        What to call. Handed out once, so that it is Python that drops it: a finalizer may
        run then.
        """

@final
class JoinsProcess:
    """
    `with JoinsProcess(process):` around a join without a time limit.
    """
    def __enter__(self, /) -> None: ...
    def __exit__(self, /, *_exc: "object") -> None: ...
    def __new__(cls, /, process: Any) -> JoinsProcess: ...

@final
class Keeper:
    """
    Closes a loop's sockets when the loop lets go of it.
    """

@final
class Lane:
    """
    A queue of calls that at most `limit` threads of the crew serve at once.
    """
    def __new__(cls, /, limit: SupportsIndex) -> Lane: ...
    def post(self, /, call: Any) -> None:
        """
        Has a worker call `call()`. Nobody sees its result; an exception is reported as that
        of a thread.
        """

@final
class Lock:
    """
    A lock for threads and coroutines at once: `threading.Lock` and `asyncio.Lock` in one.

    It may be shared by threads, tasks of several event loops and Rust tasks. As with the
    standard library's, any of them may release it. Who has waited for 1 ms is handed the lock
    when it becomes free; else whoever comes first takes it.

    >>> import asyncio
    >>> from plait import Lock
    >>> lock = Lock()
    >>> with lock:
    ...     lock.locked()
    True
    >>> async def main():
    ...     async with lock:
    ...         return lock.acquire(blocking=False)
    >>> asyncio.run(main())
    False
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *exc: "object") -> Any: ...
    def __enter__(self, /) -> bool: ...
    def __exit__(self, /, _kind: Any | None = None, _error: Any | None = None, _traceback: Any | None = None) -> None: ...
    def __new__(cls, /) -> Lock: ...
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _at_fork_reinit(self, /) -> None: ...
    @property
    def _engine(self, /) -> int: ...
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    def acquire(self, /, blocking: "bool" = ..., timeout: "float" = ...) -> bool:
        """
        Take the lock, waiting for it if need be.

        Args:
            blocking: wait while another thread or task has it.
            timeout: the most seconds to wait; -1: no limit. Honoured to a millisecond.

        Returns:
            Whether it was taken.

        Raises:
            ValueError: the timeout is negative, nan, or given with ``blocking=False``.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def acquire_async(self, /) -> Awaitable:
        """
        Take the lock in a coroutine: ``await lock.acquire_async()`` gives True.

        Cancelling the task leaves the line; a lock that it had been handed goes to the next.
        """
    def locked(self, /) -> bool:
        """
        Whether it is taken.
        """
    def release(self, /) -> None:
        """
        Let the lock go; any thread or task may.

        Raises:
            RuntimeError: nobody has it.
        """

@final
class PoolDefinition:
    """
    A function, or a set of context variables, that the workers of a pool have, until nobody has
    this any more.
    """
    @property
    def number(self, /) -> int: ...

@final
class PoolMap:
    """
    The iterator of a `map`: results as they are asked for; it sends out further items then.
    """
    def __aiter__(self, /) -> Any: ...
    def __iter__(self, /) -> PoolMap: ...
    def __next__(self, /) -> Any: ...
    def close(self, /) -> None:
        """
        Takes back what has not begun; there are no further results.
        """
    def notify(self, /, callback: Any) -> bool:
        """
        Has `callback` called, by any thread, when the next result is there, or none will come;
        False: that is so now.
        """
    def poll(self, /) -> "tuple[object] | None":
        """
        Without waiting: a tuple of the next result, None if it isn't there yet. Raises
        StopIteration at the end, or the result's exception.
        """

@final
class PoolThread:
    """
    A thread that is to be started for a pool.
    """
    def begin(self, /) -> bool:
        """
        For the thread: it begins. False: it is not wanted any more.
        """
    def break_down(self, /, reason: str) -> None:
        """
        The thread could not begin: the pool is broken.
        """
    def serve(self, /, ident: SupportsIndex) -> None:
        """
        Runs the pool's tasks until the pool's end.
        """

@final
class PoolWorker:
    """
    A worker's end of the pool.
    """
    def __new__(cls, /, key: SupportsIndex, file: SupportsIndex, board: SupportsIndex, bell: SupportsIndex, helpers: Any) -> PoolWorker:
        """
        Takes over the descriptors that `add_worker` gave: the worker's file, the pool's file,
        the driver's bell.
        """
    def announce(self, /) -> None:
        """
        Lets the parent know of what was sent, however little.
        """
    def broken(self, /, reason: str) -> None:
        """
        The initializer has failed.
        """
    def holds_output(self, /) -> None:
        """
        Has the helpers' `flush` called before a result is sent.
        """
    def output(self, /, stderr: bool, text: bytes) -> None:
        """
        Sends text on to the parent's stdout or stderr.
        """
    def ready(self, /) -> None:
        """
        The initializer has run.
        """
    def serve(self, /) -> None:
        """
        Works until it is told to leave.
        """

@final
class ProcessPool:
    """
    A pool of worker processes; see `plait.executors`.
    """
    def __new__(cls, /, future: type, max_workers: SupportsIndex, max_tasks: SupportsIndex | None, half: Any) -> ProcessPool:
        """
        `half`: what of the pool is Python, see `plait._pool`. It has this one, so this one
        refers to it weakly.
        """
    def abort(self, /) -> None:
        """
        Ends all tasks and workers, now.
        """
    def add_worker(self, /) -> tuple[int, int, int, int]:
        """
        Makes room for a worker: its key, and the descriptors that it needs (its own file, the
        pool's, the driver's bell), which stay the pool's.
        """
    def break_down(self, /, reason: str) -> None:
        """
        The pool can't go on.
        """
    @property
    def broken(self, /) -> str | None:
        """
        Why the pool can't go on, if so.
        """
    def cannot_start(self, /, reason: str) -> None:
        """
        No worker can be started.
        """
    def claim(self, /) -> bool:
        """
        Becomes the driver; False: there is one.
        """
    def close(self, /, cancel: bool = False) -> None:
        """
        Takes no more tasks; workers leave when all is done, which is left to the driver.
        """
    def define(self, /, function: Any, name: str, watch: Watch | None, keep: bool) -> PoolDefinition:
        """
        Gives a function to the workers. `keep`: until it is defined anew.
        """
    def define_context(self, /, variables: Any) -> PoolDefinition:
        """
        Gives a set of context variables to the workers.
        """
    def drive(self, /) -> list[tuple[str, int]] | None:
        """
        The driver: waits for something to do, does what is Rust's, and returns what is
        Python's: ("start", 0), ("kill", key), ("bury", key), ("write", 0). None: the pool is
        finished.
        """
    def ended(self, /, key: SupportsIndex, exitcode: SupportsIndex) -> None:
        """
        A worker's process has ended and was reaped, or did not start.
        """
    def finish_maps(self, /) -> None:
        """
        Sends out all that is left of maps that were never iterated.
        """
    @property
    def is_driven(self, /) -> bool:
        """
        Whether there is a driver.
        """
    def is_ours(self, /) -> bool:
        """
        Whether this process made it, rather than being a forked copy.
        """
    def map(self, /, function: Any, items: Any, *, star: bool, ordered: bool, options: TaskOptions | None = None, timeout: SupportsFloat | SupportsIndex | None = None, chunksize: SupportsIndex | None = None, buffersize: SupportsIndex | None = None, length: SupportsIndex | None = None) -> PoolMap:
        """
        A map over an iterator of arguments, or of tuples of them (`star`).
        """
    @property
    def needed(self, /) -> int:
        """
        Workers that are to be started, or are being started.
        """
    def next_output(self, /) -> tuple[bool, bytes] | None:
        """
        For who does as ("write", 0) says: whether it is for stderr, and the text. None: all is
        written. Another call follows when it is, to `written`.
        """
    @property
    def outstanding(self, /) -> int:
        """
        Tasks without an outcome.
        """
    def submit(self, /, function: "object", args: "tuple[object, ...]", kwargs: "dict[str, object]", options: TaskOptions | None = None) -> "object":
        """
        Submits a call; its future.
        """
    def watch(self, /, key: SupportsIndex, pid: SupportsIndex, sentinel: SupportsIndex) -> None:
        """
        A worker's process has started.
        """
    def workers(self, /) -> list[tuple[int, int, bool, int, int, int, int, int]]:
        """
        Of each worker: key, pid, idle, started (ns), tasks, busy, waited (ns), pickled bytes.
        """
    def written(self, /) -> None:
        """
        What `next_output` returned is written, or was tried to.
        """

@final
class Promise:
    """
    The executor's half of a future; see `plait._pipe_pool`.
    """
    def __new__(cls, /, source: Any | None = None) -> Promise:
        """
        `source` has methods without arguments: `wait`, before a thread waits for it, may raise;
        `withdraw`, `has_begun` and `stop` return a bool and are as those of the trait `Source`.
        """
    def cancel(self, /) -> bool:
        """
        Ends it as cancelled. False: it was done before.
        """
    def complete(self, /, decode: "object", is_error: bool = False) -> bool:
        """
        Ends it with the value, or the exception, that `decode()` returns when somebody asks for
        it: called once, what it raises is the task's exception. False: it was done before.
        """
    def future(self, /, kind: type) -> Any:
        """
        The future, of class `kind`; once.
        """

@final
class QueueSeat:
    """
    A coroutine's place in the line.
    """
    def leave(self, /) -> None:
        """
        The coroutine waits no more.
        """
    def told(self, /) -> Awaitable:
        """
        Await it, then look again.
        """

@final
class RLock:
    """
    A lock that its owner may take again: `threading.RLock`, for coroutines too.

    The owner is the thread for `acquire` and ``with``, the task for `acquire_async` and
    ``async with``: two tasks of one loop exclude each other, as asyncio's own locks have it.

    >>> import asyncio
    >>> from plait import RLock
    >>> lock = RLock()
    >>> with lock, lock:
    ...     lock.locked()
    True
    >>> async def main():
    ...     async with lock:
    ...         async with lock:
    ...             return lock.locked()
    >>> asyncio.run(main()), lock.locked()
    (True, False)
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *exc: "object") -> Any: ...
    def __enter__(self, /) -> bool: ...
    def __exit__(self, /, _kind: Any | None = None, _error: Any | None = None, _traceback: Any | None = None) -> None: ...
    def __new__(cls, /) -> RLock: ...
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _acquire_restore(self, /, state: tuple[SupportsIndex, SupportsIndex]) -> None: ...
    def _at_fork_reinit(self, /) -> None: ...
    @property
    def _engine(self, /) -> int: ...
    def _is_owned(self, /) -> bool: ...
    def _recursion_count(self, /) -> int: ...
    def _release_save(self, /) -> tuple[int, int]:
        """
        `(how often, by whom)`, for `_acquire_restore`.
        """
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    def acquire(self, /, blocking: "bool" = ..., timeout: "float" = ...) -> bool:
        """
        Take the lock, again if this thread has it, waiting for it if need be.

        Args:
            blocking: wait while another thread or task has it.
            timeout: the most seconds to wait; -1: no limit.

        Returns:
            Whether it was taken.

        Raises:
            ValueError: the timeout is negative, nan, or given with ``blocking=False``.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def acquire_async(self, /) -> Awaitable:
        """
        Take the lock for the task that calls this: ``await lock.acquire_async()`` gives True.
        """
    def locked(self, /) -> bool:
        """
        Whether anybody holds it.
        """
    def release(self, /) -> None:
        """
        Undo one `acquire` of this thread, or one `acquire_async` of this task.

        Raises:
            RuntimeError: neither has the lock.
        """

@disjoint_base
class RWLock:
    """
    A lock for many readers or one writer; the standard library has none.

    Threads and tasks wait in one line: a reader that comes after a waiting writer waits behind
    it, so that neither readers nor writers starve. Who reads may read again at once. Who reads
    cannot take it for writing too, nor who writes take it again: that would wait for ever.

    >>> import asyncio
    >>> from plait import RWLock
    >>> table = RWLock()
    >>> with table.read(), table.read():
    ...     table.acquire_write(blocking=False)
    False
    >>> async def main():
    ...     async with table.write():
    ...         return table.acquire_read(timeout=0.001)
    >>> asyncio.run(main())
    False
    """
    def __init__(self, /) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> RWLock:
        """
        Subclasses may take arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _at_fork_reinit(self, /) -> None: ...
    @property
    def _engine(self, /) -> int: ...
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    def acquire_read(self, /, blocking: "bool" = ..., timeout: "float" = ...) -> bool:
        """
        Take it for reading, beside other readers.

        Args:
            blocking: wait while a writer has it or waits for it.
            timeout: the most seconds to wait; -1: no limit.

        Returns:
            Whether it was taken.

        Raises:
            ValueError: the timeout is negative, nan, or given with ``blocking=False``.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def acquire_read_async(self, /) -> Awaitable:
        """
        Take it for reading, for the task that calls this; gives True.
        """
    def acquire_write(self, /, blocking: "bool" = ..., timeout: "float" = ...) -> bool:
        """
        Take it for writing, alone.

        Args:
            blocking: wait while anybody has it.
            timeout: the most seconds to wait; -1: no limit.

        Returns:
            Whether it was taken.

        Raises:
            ValueError: the timeout is negative, nan, or given with ``blocking=False``.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def acquire_write_async(self, /) -> Awaitable:
        """
        Take it for writing, for the task that calls this; gives True.
        """
    def read(self, /) -> RWLockAccess:
        """
        ``with rw.read():`` or ``async with rw.read():``
        """
    def release_read(self, /) -> None:
        """
        Undo one `acquire_read` of this thread or task.

        Raises:
            RuntimeError: neither reads.
        """
    def release_write(self, /) -> None:
        """
        Undo `acquire_write`.

        Raises:
            RuntimeError: neither this thread nor this task writes.
        """
    def write(self, /) -> RWLockAccess:
        """
        ``with rw.write():`` or ``async with rw.write():``
        """

@final
class RWLockAccess:
    """
    One way to hold an `RWLock`, for ``with`` and ``async with``.
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *_exc: "object") -> Any: ...
    def __enter__(self, /) -> bool: ...
    def __exit__(self, /, _kind: Any | None = None, _error: Any | None = None, _traceback: Any | None = None) -> None: ...

@final
class Rehearsal:
    """
    What such a worker is sent.
    """
    def __new__(cls, /, function: Any, args: "tuple[object, ...]") -> Rehearsal: ...
    def files(self, /) -> tuple[int, int, int]:
        """
        A new worker's file, its pool's and the driver's bell; the task is there already, and
        the order to leave.
        """

@final
class Response:
    """
    What a server answered.
    """
    def __repr__(self, /) -> str: ...
    @property
    def body(self, /) -> bytes: ...
    @property
    def headers(self, /) -> dict[str, str]: ...
    @property
    def status(self, /) -> int: ...
    @property
    def url(self, /) -> str:
        """
        Where it came from, after redirects.
        """

@final
class RunEnd:
    """
    The end of a run: what `threading.Thread._handle` is since Python 3.13.
    """
    def _set_done(self, /) -> None: ...
    def acquire(self, /, blocking: bool = True, timeout: SupportsFloat | SupportsIndex = ...) -> bool:
        """
        As a lock that the run holds: what exit waits for before Python 3.13.
        """
    @property
    def ident(self, /) -> int: ...
    def is_done(self, /) -> bool:
        """
        Whether it has ended.
        """
    def join(self, /, timeout: SupportsFloat | SupportsIndex | None = None) -> bool:
        """
        Waits for it, `timeout` seconds at most. Whether it has ended.
        """
    def locked(self, /) -> bool: ...
    def release(self, /) -> None: ...

@final
class Sampler:
    """
    Looks at the threads of this process, `hz` times a second, until `stop`.
    """
    def __new__(cls, /, hz: SupportsFloat | SupportsIndex = 1000.0, path: str | PathLike[str] | None = None, records: SupportsIndex = 131072) -> Sampler:
        """
        Without a path it keeps totals only; with one, it notes spans there, at most `records`.
        """
    @property
    def cost(self, /) -> tuple[int, int]:
        """
        How often it has looked, and the CPU time of that, in nanoseconds.
        """
    def name(self, /, number: SupportsIndex, text: str) -> None:
        """
        Notes what a number that records name stands for; its first 96 bytes.
        """
    def note(self, /, kind: SupportsIndex, began: SupportsIndex, ended: SupportsIndex, a: SupportsIndex = 0, b: SupportsIndex = 0, state: SupportsIndex = 0, tid: SupportsIndex = 0) -> None:
        """
        Notes something of the calling thread's; what it means is for who reads it.
        """
    def resume(self, /) -> None:
        """
        Looks again, after `stop`: a fork is to find one thread less.
        """
    @property
    def source(self, /) -> str:
        """
        How it knows who holds the GIL: "read", "inferred", or "none" where there is no GIL.
        """
    def steps(self, /) -> Steps | None:
        """
        What notes the steps of this process's tasks; None: there is no tape.
        """
    def stop(self, /) -> None:
        """
        Ends it; what was noted stays. A second time it does nothing.
        """
    def totals(self, /) -> dict[int, list[int]]:
        """
        Nanoseconds that each thread, by its native id, was in each state until now: `gil nogil
        wait_gil wait_lock wait_io sleep idle unknown`, and ready but without a processor.
        """

@disjoint_base
class Semaphore:
    """
    A number of permits: `threading.Semaphore` and `asyncio.Semaphore` in one.

    Args:
        value: the number of permits at first.

    Raises:
        ValueError: it is negative.

    >>> import asyncio
    >>> from plait import Semaphore
    >>> permits = Semaphore(2)
    >>> with permits:
    ...     permits.acquire(), permits.acquire(blocking=False)
    (True, False)
    >>> async def main():
    ...     async with permits:
    ...         return permits.acquire(timeout=0.001)
    >>> asyncio.run(main())
    False
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *_exc: "object") -> Any: ...
    def __enter__(self, /) -> bool: ...
    def __exit__(self, /, _kind: Any | None = None, _error: Any | None = None, _traceback: Any | None = None) -> None: ...
    def __init__(self, /, value: SupportsIndex = 1) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> Semaphore:
        """
        Subclasses may take other arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    @property
    def _engine(self, /) -> int: ...
    def _statistics(self, /) -> tuple[int, int | None, int, int]: ...
    @property
    def _value(self, /) -> int: ...
    def acquire(self, /, blocking: "bool" = ..., timeout: Incomplete | None = None) -> bool:
        """
        Take a permit, waiting for one if need be.

        Args:
            blocking: wait while there is none.
            timeout: the most seconds to wait; None: no limit; 0 or less: don't wait.

        Returns:
            Whether one was taken.

        Raises:
            ValueError: the timeout is nan, or given with ``blocking=False``.
            OverflowError: it is longer than `threading.TIMEOUT_MAX`.
        """
    def acquire_async(self, /) -> Awaitable:
        """
        Take a permit in a coroutine: ``await semaphore.acquire_async()`` gives True.
        """
    def release(self, /, n: SupportsIndex = 1) -> None:
        """
        Give back a permit, or ``n`` of them.

        Raises:
            ValueError: ``n`` is below 1, or there would be more than a bounded one may have.
        """

@final
class Sockets:
    def __iter__(self, /) -> Sockets:
        """
        Begins a round.
        """
    def __new__(cls, /, event_loop: Any) -> Sockets: ...
    def __next__(self, /) -> tuple[Any, Any, Any]:
        """
        The next `(callback, context, argument)`.
        """
    def adopt(self, /, descriptor: SupportsIndex, limit: SupportsIndex) -> tuple[StreamReader, StreamWriter]:
        """
        Takes over a connected socket's descriptor.
        """
    def connect(self, /, address: Any, limit: SupportsIndex, local: Any | None = None) -> tuple[StreamReader, StreamWriter]:
        """
        Begins to connect to a tuple as of `getaddrinfo`, or to a Unix socket's path as bytes.
        """
    def fileno(self, /) -> int:
        """
        The descriptor that the loop watches.
        """
    def keeper(self, /) -> Keeper:
        """
        What closes the sockets when it goes: the loop has the only reference.
        """
    def listen(self, /, descriptor: SupportsIndex, visitors: Visitors, callback: Any, context: Any, limit: SupportsIndex) -> Door:
        """
        Takes over a listening socket's descriptor. `callback` gets a reader and a writer for
        each connection, or an OSError.
        """
    def ring(self, /) -> None:
        """
        Asks for another round: this one ended early.
        """
    def shut(self, /, door: Door) -> None:
        """
        Closes a listening socket; what it has accepted goes on.
        """

@final
class Steps:
    """
    One process's tasks, and the tape that their steps are noted on.
    """
    def forget(self, /, address: SupportsIndex) -> None:
        """
        The task at this address is no more.
        """
    def know(self, /, task: Any, number: SupportsIndex) -> None:
        """
        This task has this number, until `forget`.
        """
    def paused(self, /, address: SupportsIndex) -> int:
        """
        When the task at this address last paused; 0: it runs, or has not run.
        """
    def run(self, /, tracing: Any, kind: type, original: Any, handle: Any) -> None:
        """
        Calls `original(handle)`, and notes it if that is a step of one of `kind`, asyncio's task.
        """
    def step(self, /, tracing: Any, task: Any, callback: Any, args: Any) -> None:
        """
        Calls `callback(*args)`, which is a step of this task.
        """
    def stop(self, /) -> None:
        """
        Notes the steps that are under way, as the trace ends before they do.
        """

@final
class StreamOperation:
    """
    A read, or another wait, of a stream.
    """
    def __await__(self, /) -> StreamOperation: ...
    def __iter__(self, /) -> StreamOperation: ...
    def __next__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    @property
    def _asyncio_future_blocking(self, /) -> bool | None:
        """
        None until it waits: `asyncio.isfuture` takes it for a coroutine then.
        """
    @_asyncio_future_blocking.setter
    def _asyncio_future_blocking(self, /, blocking: bool) -> None: ...
    def _make_cancelled_error(self, /) -> BaseException: ...
    def add_done_callback(self, /, fn: Any, *, context: Any | None = None) -> None: ...
    def cancel(self, /, msg: Any | None = None) -> bool:
        """
        False if there is an answer already.
        """
    def cancelled(self, /) -> bool: ...
    def close(self, /) -> None: ...
    def done(self, /) -> bool: ...
    def exception(self, /) -> Any | None: ...
    def get_loop(self, /) -> Any: ...
    def remove_done_callback(self, /, fn: Any) -> int:
        """
        How many were removed.
        """
    def result(self, /) -> None:
        """
        For the task that waits: None, when it may step.
        """
    def send(self, /, value: Any) -> Any:
        """
        As a coroutine's; the value is not looked at.
        """
    def throw(self, /, typ: Any, val: Any | None = None, tb: Any | None = None) -> None: ...

@final
class StreamReader:
    """
    The receiving end of a connection: asyncio.StreamReader's interface.

    Bytes are read when they are asked for, so that the network holds back a sender who is
    faster than the reader; asyncio's reads ahead. Reads that are cancelled lose nothing.
    """
    def __aiter__(self, /) -> StreamReader: ...
    def __anext__(self, /) -> StreamOperation: ...
    def __repr__(self, /) -> str: ...
    def at_eof(self, /) -> bool:
        """
        Is the end reached, and nothing left to read?
        """
    def exception(self, /) -> BaseException | None:
        """
        What reading failed with, if it did: the next read raises it.
        """
    def read(self, /, n: SupportsIndex = ...) -> StreamOperation:
        """
        Up to n bytes, as soon as there are some; b"" at the end; n = -1: all up to the end.
        """
    def readexactly(self, /, n: SupportsIndex) -> StreamOperation:
        """
        Exactly n bytes.
        """
    def readline(self, /) -> StreamOperation:
        """
        Up to and with a newline, or up to the end.
        """
    def readuntil(self, /, separator: Any | None = None) -> StreamOperation:
        """
        Up to and with a separator, or the first of a tuple of them.
        """

@final
class StreamWriter:
    """
    The sending end of a connection: asyncio.StreamWriter's interface.

    What can be sent at once is. It is its own ``transport``. A stream that nobody refers to any
    more is closed.
    """
    def __repr__(self, /) -> str: ...
    def _keep(self, /, copy: Any) -> None:
        """
        For `plait._streams`: the caller's own socket, which closes with this.
        """
    def _opened(self, /) -> StreamOperation:
        """
        For `plait._streams`: is it connected?
        """
    @property
    def _server_side(self, /) -> bool: ...
    def _shake(self, /, settings: TlsSettings, server_hostname: str | None) -> StreamOperation:
        """
        For `plait._streams`: begins TLS and waits for its handshake.
        """
    def abort(self, /) -> None:
        """
        Closes the stream at once.
        """
    def can_write_eof(self, /) -> bool: ...
    def close(self, /) -> None:
        """
        Closes the stream, when all that was written is sent.
        """
    def drain(self, /) -> StreamOperation:
        """
        Waits while more than the limit (64 KB) is not sent.
        """
    def get_extra_info(self, /, name: str, default: Any | None = None) -> Any | None:
        """
        "peername", "sockname", "socket", "ssl_object", "cipher".
        """
    def get_write_buffer_limits(self, /) -> tuple[int, int]:
        """
        (low, high), in bytes.
        """
    def get_write_buffer_size(self, /) -> int: ...
    def is_closing(self, /) -> bool: ...
    def set_write_buffer_limits(self, /, high: SupportsIndex | None = None, low: SupportsIndex | None = None) -> None: ...
    def start_tls(self, /, sslcontext: Any, *, server_hostname: str | None = None, ssl_handshake_timeout: SupportsFloat | SupportsIndex | None = None, ssl_shutdown_timeout: SupportsFloat | SupportsIndex | None = None) -> Any:
        """
        Goes over to TLS: a coroutine.
        """
    @property
    def transport(self, /) -> StreamWriter: ...
    def wait_closed(self, /) -> StreamOperation: ...
    def write(self, /, data: Any) -> None:
        """
        Sends bytes, at once or when the network takes them: `await drain()` waits for that.
        """
    def write_eof(self, /) -> None:
        """
        Sends the end of the stream, after all that was written; reads go on.
        """
    def writelines(self, /, data: Any) -> None:
        """
        The same for several pieces.
        """

@final
class TaskOptions:
    """
    How tasks are to be run; see `plait.executors`.
    """
    def __new__(cls, /, timeout: SupportsFloat | SupportsIndex | None = None, retries: SupportsIndex = 0, memory: SupportsIndex | None = None, name: str | None = None) -> TaskOptions: ...

@final
class TlsConnection:
    """
    What is known of a connection's TLS: the part of `ssl.SSLObject` that tells about it.
    """
    def cipher(self, /) -> tuple[str, str, int] | None:
        """
        (name, version, bits)
        """
    def getpeercert(self, /, binary_form: bool = False) -> bytes | None:
        """
        The other side's certificate in DER; only with `binary_form=True`.
        """
    def selected_alpn_protocol(self, /) -> str | None:
        """
        The protocol that both sides agreed on, of those that `TLS(alpn=…)` names.
        """
    def version(self, /) -> str | None: ...

@final
class TlsSettings:
    """
    Whom to trust and what to show.
    """
    def __new__(cls, /, cafile: str | PathLike[str] | None, authorities: SupportsGetItem[int, SupportsGetItem[int, SupportsIndex]] | None, identity: tuple[str | PathLike[str], str | PathLike[str]] | None, verify: SupportsIndex, versions: SupportsIndex, alpn: SupportsGetItem[int, SupportsGetItem[int, SupportsIndex]] = ..., clients: SupportsIndex = 0) -> TlsSettings:
        """
        `authorities`: certificates in DER, for those that are in no file. `verify`: 0 nothing,
        1 the chain, 2 the name too. `versions`: bit 0 for TLS 1.2, bit 1 for 1.3. `alpn`: names of
        protocols. `clients`: whether a server asks for a certificate: 0 no, 1 yes, 2 it insists.
        """
    @property
    def has_identity(self, /) -> bool:
        """
        Can it be a server's?
        """

@final
class Visitors:
    """
    The open connections of a server.
    """
    def __len__(self, /) -> int: ...
    def __new__(cls, /, sockets: Sockets) -> Visitors: ...
    def abort_all(self, /) -> None: ...
    def close(self, /) -> None:
        """
        No more will come.
        """
    def close_all(self, /) -> None: ...
    def wait(self, /) -> StreamOperation:
        """
        Until the server is closed and the last of them gone.
        """

@final
class Watch:
    """
    The parts of a function that was sent by value, by identity. What changes inside of a part,
    such as a list, is not seen.
    """
    def __new__(cls, /, parts: "list[tuple[object, str | None, tuple[object, ...]]]") -> Watch:
        """
        Each a tuple of a place (a dict of globals, a class's namespace, a cell, or a function),
        a name (None for a cell or a function) and a tuple of the value, or an empty one if there
        is none; of a function, its code is looked at, its defaults and its keyword defaults.
        """
    def holds(self, /) -> bool:
        """
        Whether each part is where it was.
        """

@final
class WatchNews:
    """
    Waits for the news of all watches, until there are none: `(number, seconds, stands)`, where
    no number of seconds means that it is time to look for loops.
    """
    def __iter__(self, /) -> WatchNews: ...
    def __new__(cls, /) -> WatchNews: ...
    def __next__(self, /) -> tuple[int, float | None, bool]: ...

@final
class Worker:
    """
    One thread's view of the crew: iterating waits for its jobs.
    """
    def __iter__(self, /) -> Worker: ...
    def __new__(cls, /) -> Worker: ...
    def __next__(self, /) -> Job: ...
    @property
    def name(self, /) -> str: ...

@final
class Zygote:
    """
    A zygote; see `plait._zygote`.
    """
    def __new__(cls, /, program: str, arguments: SupportsGetItem[int, str], environment: SupportsGetItem[int, tuple[SupportsGetItem[int, SupportsIndex], SupportsGetItem[int, SupportsIndex]]]) -> Zygote: ...
    def drop_spares(self, /) -> None:
        """
        Ends the spares that there are, or will be.
        """
    def end(self, /) -> str | None:
        """
        Ends it and says how it ended, as text.
        """
    def fork(self, /, head: bytes, body: bytes, fds: SupportsGetItem[int, SupportsIndex]) -> Child:
        """
        Forks a child for a payload.
        """
    def is_ours(self, /) -> bool:
        """
        Whether this process started it: a forked copy of that process must not use it.
        """
    def is_out_of_spares(self, /) -> bool:
        """
        Whether there are no spares.
        """
    def missing(self, /) -> int:
        """
        How many spares there are too few.
        """
    @property
    def pid(self, /) -> int | None:
        """
        Its process id, None when it was ended.
        """
    def refill(self, /) -> None:
        """
        Asks for spares until there will be as many as are wanted.
        """
    def ring(self, /) -> None:
        """
        Wakes the spare that `take` will give: what it is to do is being prepared.
        """
    @property
    def spares(self, /) -> tuple[list[int], int]:
        """
        The pids of the spares that are ready, and how many there should be.
        """
    def take(self, /) -> Child | None:
        """
        A spare that waits for its payload, if there is one.
        """
    def tell(self, /, state: bytes, fds: SupportsGetItem[int, SupportsIndex]) -> int:
        """
        Tells it the state that its children start with; gives the state's number, which they
        have as their generation.
        """

def add_together(threads: SupportsIndex, rounds: SupportsIndex, in_one_step: bool) -> int:
    """
    What `threads` threads in Rust leave that each add one to a number, `rounds` times.
    """

def apply_attributes(bytes: bytes) -> None:
    """
    Puts attributes of another process in force in this one, but for the blocked signals.
    """

def await_frame(socket: SupportsIndex, parent: SupportsIndex, seconds: SupportsIndex | None, awake: bool) -> "tuple[bytes, list[int]] | bool":
    """
    In a child: waits for its payload; see the engine. `True`: it is being prepared; `False`:
    there will be none. It stays attached, being the only thread.
    """

def await_future(future: BaseFuture) -> Awaitable:
    """
    What `await future` waits for; a new one each time.
    """

def blocked(wait: Any) -> Any:
    """
    Calls `wait()`, which blocks this thread; if it is one of a pool's, that has one thread more
    for so long.
    """

def close_threads() -> None:
    """
    The interpreter is about to go away: no run begins any more.
    """

def count_primes(n: SupportsIndex, workers: SupportsIndex | None = None) -> int: ...
def cpu_count() -> int: ...
def crc32(buffers: Any, workers: SupportsIndex | None = None) -> list[int]: ...

def end_watch() -> None:
    """
    Stops watching the parent for good.
    """

def end_with_parent(pidfd: SupportsIndex) -> None:
    """
    Ends this process as soon as the one behind `pidfd` (handed over) has ended.
    """

def find_deadlocks(on: bool) -> bool:
    """
    Turns the search on or off; gives what it was.
    """

def fork_sibling() -> int:
    """
    In the zygote: forks a sibling. 0 in the child, its pid in the zygote; a failed fork is
    returned as minus the errno, as the parent wants to be told.
    """

def gather(children: SupportsGetItem[int, Awaitable], return_exceptions: bool) -> Awaitable: ...

def http_get(url: str, headers: SupportsGetItem[int, tuple[str, str]], timeout: SupportsFloat | SupportsIndex | None, max_size: SupportsIndex | None, follow_redirects: bool, tls: TlsSettings) -> Awaitable:
    """
    `timeout`: seconds for the whole request; `max_size`: bytes of the body. None: no limit.
    """

def install_shortcuts() -> None:
    """
    Puts the shortcuts in front, once; the modules that offer the classes call it.
    """

def lock_inversions() -> list[list[tuple[int, tuple[str, int, str, int], tuple[str, int, str, int]]]]:
    """
    Pairs of locks that were taken in both orders: for each order who did so first, and the two
    locks with their places.
    """

def locks_held(party: SupportsIndex) -> list[tuple[str, int, str, int]]:
    """
    What a party holds, by its word, as far as that was recorded.
    """

def look_for_deadlock() -> bool:
    """
    Called by a loop that has nothing to do at the moment: refuses the wait of one of its tasks
    if nothing else in the process can go on either.
    """

def mandelbrot(width: SupportsIndex, height: SupportsIndex, max_iter: SupportsIndex, workers: SupportsIndex | None = None) -> memoryview: ...

def memfd(name: str) -> int:
    """
    A new file in memory, close-on-exec. (An interpreter that was built on an old C library
    lacks os.memfd_create and the calls for pidfds, whatever the kernel has.)
    """

def name_thread(name: str) -> None:
    """
    Names the calling thread, for the system.
    """

def next_request(control: SupportsIndex, parent: SupportsIndex, idle: SupportsFloat | SupportsIndex | None = None) -> tuple[int, int, int] | None:
    """
    In the zygote: waits for a request. Its kind, number and descriptor; `None`: the parent is
    gone; kind 0: nothing was asked for `idle` seconds.
    """

def parent_pidfd(expected: SupportsIndex) -> int:
    """
    A pidfd for the parent, if it still is `expected`; else ProcessLookupError.
    """

def parse_host(host: str | None, port: SupportsIndex, family: SupportsIndex) -> list[tuple[int, Any]] | None:
    """
    The address of a host that is given in digits, as `resolve_host` gives it.
    """

def pause_watch() -> None:
    """
    Stops watching the parent, before a fork.
    """

def probe_calls(bridge: Bridge, callback: Any, context: Any, count: SupportsIndex) -> Awaitable:
    """
    Has a task on tokio's threads make so many calls of `callback()` on the bridge's loop.
    """

def probe_panicking_call(bridge: Bridge) -> None:
    """
    Has the bridge's loop run a call of Rust's that panics.
    """

def probe_panics(polls: SupportsIndex) -> Awaitable:
    """
    A Rust future that panics when it is polled for so many times; 0: it waits until it is dropped,
    and panics then.
    """

def probe_ready() -> Awaitable:
    """
    A Rust future that is ready when it is polled.
    """

def probe_spawned() -> Awaitable:
    """
    One that a task on tokio's threads ends.
    """

def read_file(path: str | PathLike[str]) -> Awaitable:
    """
    The bytes of a file.
    """

def read_tape(path: str | PathLike[str]) -> tuple[int, int, int, int, list[tuple[int, int, int, int, int, int, int]]] | None:
    """
    What a tape holds: its process, when it began and ended (0: it goes on, or was killed), how
    many records were lost, and the records. None: it is not a tape.
    """

def reap(pidfd: SupportsIndex) -> int | None:
    """
    The exit code of an ended child, minus the signal's number if one ended it. `None`: someone
    else has waited for it already.
    """

def receive_frame(socket: SupportsIndex, wait: bool = True) -> "tuple[bytes, list[int]] | None":
    """
    Receives a frame; `None`: the other side is gone. With `wait=False` also when nothing is
    there yet.
    """

def record_places(on: bool) -> bool:
    """
    Turns it on or off; gives what it was.
    """

def resolve_host(host: str | None, port: SupportsIndex, family: SupportsIndex, flags: SupportsIndex) -> Awaitable:
    """
    Looks up a host's addresses: an awaitable of tuples `(family, address)`.
    """

def resume_watch() -> None:
    """
    Watches the parent again, after a fork.
    """

def send_frame(socket: SupportsIndex, bytes: bytes, fds: SupportsGetItem[int, SupportsIndex]) -> None:
    """
    Sends a frame of bytes and descriptors, waiting while the socket is full.
    """

def send_hello(socket: SupportsIndex, word: SupportsIndex) -> None:
    """
    In a child, or for one: the word by which its parent knows it, or minus an errno.
    """

def shut_down() -> None:
    """
    Ends plait's tokio threads, at exit.
    """

def signal_process(pidfd: SupportsIndex, number: SupportsIndex) -> None:
    """
    Sends a signal to the process behind a pidfd; a process that has ended is fine.
    """

def sleep(delay: SupportsFloat | SupportsIndex, result: Any) -> Awaitable: ...

def surroundings() -> "tuple[bytes, bytes, bytes]":
    """
    What is compared at each start, each as bytes: session, user and group ids (a zygote serves
    one identity only); umask, niceness, blocked signals, limits and affinity; and which
    directory this is.
    """

def to_thread(call: Any) -> Awaitable:
    """
    `call()` on a thread of the crew.
    """

def unblock(bytes: bytes) -> None:
    """
    Blocks the signals that these attributes block, and no others.
    """

def untimed_waits() -> "list[Any]":
    """
    The waits of this moment that have no time limit. Called once before there is any: what waits
    need from Python is looked up then, and not by one of them in the midst of another's fork,
    whose child would wait for the look-up's end for ever.
    """

def watch_begin(bridge: Bridge | None, threshold: SupportsFloat | SupportsIndex) -> tuple[int, bool]:
    """
    Begins a watch over a loop, or (no bridge) one that tells when to look for loops. Gives its
    number, and whether the caller has to start a thread that iterates over `WatchNews`.
    """

def watch_end(number: SupportsIndex) -> None: ...

def watch_pause(number: SupportsIndex) -> None:
    """
    The loop did not run: no standstill.
    """

def word_count(texts: Any, workers: SupportsIndex | None = None) -> "dict[str, int]": ...

def write_file(path: str | PathLike[str], data: SupportsGetItem[int, SupportsIndex]) -> Awaitable:
    """
    Makes a file of bytes, or replaces what is in it; the number of bytes.
    """
