"""
`plait._core`: private. Users import `plait`, whose Python modules carry the
documentation and the types.
"""

from _typeshed import SupportsGetItem
from typing import Any, SupportsFloat, SupportsIndex, final

__all__ = ["Awaitable", "Bridge", "Child", "Job", "Lane", "Response", "Worker", "Zygote", "apply_attributes", "await_frame", "count_primes", "cpu_count", "crc32", "end_with_parent", "fork_sibling", "gather", "http_get", "mandelbrot", "memfd", "next_request", "parent_pidfd", "pause_watch", "reap", "receive_frame", "resume_watch", "send_frame", "send_hello", "shut_down", "signal_process", "sleep", "surroundings", "to_thread", "unblock", "word_count"]

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

@final
class Bridge:
    def __iter__(self, /) -> Bridge:
        """
        Begins a round: takes the wake-up.
        """
    def __new__(cls, /) -> Bridge: ...
    def __next__(self, /) -> tuple[Any, Any, Awaitable]:
        """
        The next `(callback, context, awaitable)`; polls futures until one is due.
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

def word_count(texts: Any, workers: SupportsIndex | None = None) -> "dict[str, int]": ...
