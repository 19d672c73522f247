"""
`plait._core`: private. Users import `plait`, whose Python modules carry the
documentation and the types.
"""

from _typeshed import Incomplete, SupportsGetItem
from typing import Any, SupportsFloat, SupportsIndex, final
from typing_extensions import disjoint_base

__all__ = ["Awaitable", "BaseChannel", "BaseFuture", "BoundedSemaphore", "Bridge", "Child", "Job", "Lane", "Lock", "PoolMap", "PoolWorker", "ProcessPool", "Promise", "Response", "Semaphore", "TaskOptions", "Watch", "WatchNews", "Worker", "Zygote", "apply_attributes", "await_frame", "await_future", "count_primes", "cpu_count", "crc32", "end_with_parent", "fork_sibling", "gather", "http_get", "mandelbrot", "memfd", "next_request", "parent_pidfd", "pause_watch", "probe_calls", "probe_ready", "probe_spawned", "reap", "receive_frame", "resume_watch", "send_frame", "send_hello", "shut_down", "signal_process", "sleep", "surroundings", "to_thread", "unblock", "watch_begin", "watch_end", "watch_pause", "word_count"]

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
        Ends it: the Rust future is dropped. False if it was done.
        """
    def cancelled(self, /) -> bool: ...
    def close(self, /) -> None:
        """
        As a coroutine's: one that was not started never will be.
        """
    def done(self, /) -> bool: ...
    def exception(self, /) -> BaseException | None: ...
    def get_loop(self, /) -> Any: ...
    def remove_done_callback(self, /, fn: Any) -> int:
        """
        How many were removed.
        """
    def result(self, /) -> Any: ...
    def send(self, /, value: Any) -> Any | None:
        """
        As a coroutine's; the value is not looked at.
        """
    def start(self, /) -> Awaitable:
        """
        Starts it now, without waiting for it.
        """
    def throw(self, /, typ: Any, val: Any | None = None, tb: Any | None = None) -> None: ...

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
    def _try_reserve(self, /) -> bool:
        """
        Whether there was a place; it is to be filled.
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
    def __init__(self, /) -> None: ...
    def __new__(cls, /, *_args: "object", **_kwargs: "object") -> BaseFuture:
        """
        Subclasses may take arguments in their `__init__`.
        """
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
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

class BoundedSemaphore(Semaphore):
    """
    A semaphore that never has more permits than at first.
    """
    def __new__(cls, /, value: SupportsIndex = 1) -> BoundedSemaphore: ...

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
    def fileno(self, /) -> int:
        """
        The descriptor that the loop watches.
        """
    def ring(self, /) -> None:
        """
        Asks for another round: this one ended early.
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
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *_exc: "object") -> Any: ...
    def __enter__(self, /) -> bool: ...
    def __exit__(self, /, *_exc: "object") -> None: ...
    def __new__(cls, /) -> Lock: ...
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _at_fork_reinit(self, /) -> None: ...
    def acquire(self, /, blocking: "bool" = ..., timeout: "float" = ...) -> bool:
        """
        Take the lock, waiting for it if need be.
        """
    def acquire_async(self, /) -> Awaitable:
        """
        Take the lock in a coroutine: ``await lock.acquire_async()``.
        """
    def locked(self, /) -> bool:
        """
        Whether it is taken.
        """
    def release(self, /) -> None:
        """
        Let the lock go; any thread or task may.
        """

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
        Has `callback` called, by any thread, when the next result is there; False: it is.
        """
    def poll(self, /) -> "tuple[object] | None":
        """
        Without waiting: a tuple of the next result, None if it isn't there yet. Raises
        StopIteration at the end, or the result's exception.
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
    def define(self, /, function: Any, name: str, watch: Watch | None, keep: bool) -> int:
        """
        Notes a function under a number, its own or a new one, and gives it to the workers.
        """
    def define_context(self, /, variables: Any) -> int:
        """
        Gives a set of context variables to the workers; its number.
        """
    def drive(self, /) -> list[tuple[str, int]] | None:
        """
        The driver: waits for something to do, does what is Rust's, and returns what is
        Python's: ("start", 0), ("kill", key), ("bury", key). None: the pool is finished.
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

@disjoint_base
class Semaphore:
    """
    A number of permits, for threads and coroutines at once.
    """
    def __aenter__(self, /) -> Any: ...
    def __aexit__(self, /, *_exc: "object") -> Any: ...
    def __enter__(self, /) -> bool: ...
    def __exit__(self, /, *_exc: "object") -> None: ...
    def __new__(cls, /, value: SupportsIndex = 1) -> Semaphore: ...
    def __reduce__(self, /) -> Any: ...
    def __repr__(self, /) -> str: ...
    def _at_fork_reinit(self, /, value: SupportsIndex) -> None: ...
    @property
    def _value(self, /) -> int: ...
    def acquire(self, /, blocking: "bool" = ..., timeout: Incomplete | None = None) -> bool:
        """
        Take a permit, waiting for one if need be.
        """
    def acquire_async(self, /) -> Awaitable:
        """
        Take a permit in a coroutine.
        """
    def release(self, /, n: SupportsIndex = 1) -> None:
        """
        Give back one permit, or several.
        """

@final
class TaskOptions:
    """
    How tasks are to be run; see `plait.executors`.
    """
    def __new__(cls, /, timeout: SupportsFloat | SupportsIndex | None = None, retries: SupportsIndex = 0, memory: SupportsIndex | None = None, name: str | None = None) -> TaskOptions: ...

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

def count_primes(n: SupportsIndex, workers: SupportsIndex | None = None) -> int: ...
def cpu_count() -> int: ...
def crc32(buffers: Any, workers: SupportsIndex | None = None) -> list[int]: ...

def end_with_parent(pidfd: SupportsIndex) -> None:
    """
    Ends this process as soon as the one behind `pidfd` (handed over) has ended.
    """

def fork_sibling() -> int:
    """
    In the zygote: forks a sibling. 0 in the child, its pid in the zygote; a failed fork is
    returned as minus the errno, as the parent wants to be told.
    """

def gather(children: SupportsGetItem[int, Awaitable], return_exceptions: bool) -> Awaitable: ...

def http_get(url: str, timeout: SupportsFloat | SupportsIndex | None) -> Awaitable:
    """
    `timeout` is the number of seconds for the whole request; None: no limit.
    """

def mandelbrot(width: SupportsIndex, height: SupportsIndex, max_iter: SupportsIndex, workers: SupportsIndex | None = None) -> memoryview: ...

def memfd(name: str) -> int:
    """
    A new file in memory, close-on-exec. (An interpreter that was built on an old C library
    lacks os.memfd_create and the calls for pidfds, whatever the kernel has.)
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

def pause_watch() -> None:
    """
    Stops watching the parent, before a fork.
    """

def probe_calls(bridge: Bridge, callback: Any, context: Any, count: SupportsIndex) -> Awaitable:
    """
    Has a task on tokio's threads make so many calls of `callback()` on the bridge's loop.
    """

def probe_ready() -> Awaitable:
    """
    A Rust future that is ready when it is polled.
    """

def probe_spawned() -> Awaitable:
    """
    One that a task on tokio's threads ends.
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
