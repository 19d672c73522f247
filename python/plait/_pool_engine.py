"""What a process pool's engine is: the one interface behind `plait.ProcessPoolExecutor`.

There are two: `plait._rings`, in Rust, over shared memory, which needs Linux; and
`plait._pipe_pool`, over `multiprocessing`'s pipes, for everywhere else. mypy checks that both
fit. `plait._pool.Helpers` starts and reaps the processes for either, and has the words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["Defined", "Engine", "Kind", "Results"]


class Results(Protocol):
    """The iterator of a map."""

    def __iter__(self) -> Results: ...
    def __next__(self) -> Any: ...
    def __aiter__(self) -> Any: ...

    def poll(self) -> tuple[object] | None:
        """Without waiting: a tuple of the next result, None if it isn't there yet. Raises
        StopIteration at the end, or the result's exception."""

    def notify(self, callback: Any) -> bool:
        """Has `callback()` called, by any thread, when the next result is there; False: it is."""

    def close(self) -> None:
        """Takes back what has not begun; there are no further results."""


class Defined(Protocol):
    """What workers have under a number, until nobody has this any more."""

    @property
    def number(self) -> int:
        """As tasks name it."""


class Engine(Protocol):
    """Tasks, and which worker has which."""

    def submit(self, function: Any, args: Any, kwargs: Any, options: Any = None) -> object:
        """Submits a call; its future."""

    def map(
        self,
        function: Any,
        items: Any,
        *,
        star: bool,
        ordered: bool,
        options: Any = None,
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        length: int | None = None,
    ) -> Results:
        """A map over an iterator of arguments, or of tuples of them (`star`)."""

    def finish_maps(self) -> None:
        """Sends out all that is left of maps that have a length."""

    def define(self, function: Any, name: str, watch: Any, keep: bool) -> Defined:
        """Gives a function to the workers. `keep`: for further tasks with it too."""

    def define_context(self, variables: Any) -> Defined:
        """Gives a set of context variables to the workers."""

    def add_worker(self) -> tuple[Any, ...]:
        """Makes room for a worker: its key, and what it is to be given as its `ends`."""

    def watch(self, key: int, pid: int, sentinel: int) -> None:
        """A worker's process has started."""

    def ended(self, key: int, exitcode: int) -> None:
        """A worker's process has ended and was reaped, or did not start."""

    def claim(self) -> bool:
        """Becomes the driver; False: there is one."""

    def drive(self) -> list[tuple[str, int]] | None:
        """For the driver's thread: waits for something to do, does its own part, and returns
        others': ("start", 0), ("kill", key), ("bury", key), ("write", 0). None: the pool is
        finished."""

    def next_output(self) -> tuple[bool, bytes] | None:
        """For who does as ("write", 0) says: whether it is for stderr, and the text. None: all
        is written. Another call follows when it is, to `written`."""

    def written(self) -> None:
        """What `next_output` returned is written, or was tried to."""

    def cannot_start(self, reason: str) -> None:
        """No worker can be started."""

    def close(self, cancel: bool = False) -> None:
        """Takes no more tasks; workers leave when all is done."""

    def abort(self) -> None:
        """Ends all tasks and workers, now."""

    def break_down(self, reason: str) -> None:
        """The pool can't go on: all that there is fails."""

    @property
    def broken(self) -> str | None:
        """Why the pool can't go on, if so."""

    @property
    def is_driven(self) -> bool:
        """Whether there is a driver; `Helpers.begin` makes one."""

    @property
    def needed(self) -> int:
        """Workers that are to be started."""

    @property
    def outstanding(self) -> int:
        """Tasks without an outcome."""

    def is_ours(self) -> bool:
        """Whether this process made it, rather than being a forked copy."""

    def workers(self) -> list[tuple[int, int, bool, int, int, int, int, int]]:
        """Of each: key, pid, idle, started (ns), tasks, busy, waited (ns), pickled bytes."""


class Kind(NamedTuple):
    """An engine with what goes with it."""

    engine: Callable[[type[Any], int, int | None, Any], Engine]
    # Of (timeout, retries, memory, name): what `submit` and `map` take as options.
    options: Callable[[float | None, int, int | None, str | None], object]
    # Of a function's parts (see `plait._functions`): its `holds()` says whether they are as
    # they were.
    watch: Callable[[Any], object]
    # Of what `add_worker` returned beside the key: what can be sent to the worker.
    ends: Callable[..., object]
    # What a worker runs, with the ends, its key, the initializer and its arguments.
    main: Callable[..., None]
