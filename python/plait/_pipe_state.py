"""Tasks and workers of the pool over pipes, as its engine sees them."""

from __future__ import annotations

import pickle
import time
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

__all__ = ["LATE", "Options", "Reason", "Receiver", "Task", "Watch", "Worker", "decode"]


class Options(NamedTuple):
    """How a task is to be run; see `plait.executors`."""

    timeout: float | None = None
    retries: int = 0
    memory: int | None = None
    name: str | None = None


class Reason(NamedTuple):
    """Why an item has no answer; `kind` is that of `plait._pool.Helpers.lost`."""

    kind: str
    pid: int = 0
    exitcode: int = 0
    text: str | None = None


LATE = Reason("late")


class Watch:
    """As `_core.Watch`: a function's parts, by identity."""

    def __init__(self, parts: list[tuple[Any, str | None, tuple[object, ...]]]) -> None:
        self._parts = [(place, name, _found(place, name)) for place, name, _ in parts]

    def holds(self) -> bool:
        for place, name, were in self._parts:
            are = _found(place, name)
            if len(are) != len(were) or any(a is not b for a, b in zip(are, were, strict=True)):
                return False
        return True


def _found(place: Any, name: str | None) -> tuple[object, ...]:
    """What is there; nothing: it is missing."""
    if isinstance(place, types.FunctionType):
        return place.__code__, place.__defaults__, place.__kwdefaults__
    if name is not None:
        return (place[name],) if name in place else ()
    try:
        return (place.cell_contents,)
    except ValueError:  # empty
        return ()


class Receiver(Protocol):
    """Who gets a task's outcomes; called by the driver, with no lock held."""

    def deliver(
        self, index: int, decode: Callable[[], object], is_error: bool, size: int
    ) -> None: ...
    def cancel(self, index: int) -> None: ...


class Definition:
    """A function, or a set of context variables, that tasks name by number.

    Tasks, and whoever makes one, keep it, and workers forget the number when it is gone.
    """

    def __init__(self, kind: str, number: int, name: str | None, data: bytes) -> None:
        self.kind = kind
        self.number = number
        self.name = name
        self.data = data


class Task:
    """A call, or some items of a map."""

    def __init__(
        self,
        kind: str,
        function: Definition | None,
        context: Definition | None,
        items: list[Any],
        options: Options,
        receiver: Receiver,
        first: int = 0,
    ) -> None:
        self.kind = kind
        self.function = function
        self.context = context
        self.items = items
        self.options = options
        self.receiver = receiver
        self.first = first  # item's index
        self.serial = 0
        self.attempts = 0
        self.is_pending = True  # rather than given to a worker, or withdrawn

    @property
    def name(self) -> str | None:
        """The function's, if it was defined."""
        return None if self.function is None else self.function.name

    def __lt__(self, other: Task) -> bool:
        return (self.serial, self.first) < (other.serial, other.first)

    def part(self, start: int, end: int | None = None) -> Task:
        """Some of its items; all of them are the task itself, which its future knows."""
        if start == 0 and (end is None or end >= len(self.items)):
            return self
        part = Task(
            self.kind,
            self.function,
            self.context,
            self.items[start:end],
            self.options,
            self.receiver,
            self.first + start,
        )
        part.serial = self.serial
        return part


def decode(
    kind: str, item: Any, loads: Callable[[bytes], Any] = pickle.loads
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """An item's function, if it has one of its own, and its arguments."""
    if kind == "call":
        function, args, kwargs = item
        return (
            loads(function) if function else None,
            loads(args),
            loads(kwargs) if kwargs else {},
        )
    value = loads(item)
    return None, value if kind == "starmap" else (value,), {}


class Worker:
    """A worker process."""

    def __init__(self, key: int, pipe: Any, theirs: Any, left: int | None) -> None:
        self.key = key
        self.pipe = pipe
        self._theirs = theirs
        self.left = left  # tasks until it is replaced
        self.pid = 0
        self._sentinel: int | None = None
        self.is_ready = self.is_deaf = self.is_buried = self.is_killed = False
        self.is_speaking = False  # what it has printed is not written yet; the rest has to wait
        self.task: Task | None = None
        self.has_begun = False
        self.answered = 0  # items of its task
        self.doomed: tuple[Task | None, int, Reason] | None = None
        self.leaves: float | None = None  # until then, or it is made to
        self._known: dict[int, weakref.ref[Definition]] = {}
        self._forgotten: deque[int] = deque()
        self._since = 0.0
        self._started = time.monotonic_ns()
        self._tasks = self._busy = self._waited = self._pickled = 0

    def started(self, pid: int, sentinel: int) -> None:
        self.pid, self._sentinel = pid, sentinel
        self._theirs.close()

    def close(self) -> None:
        self._theirs.close()
        self.pipe.close()

    def sources(self) -> list[Any]:
        """What may have news of it."""
        if self._sentinel is None or self.is_buried or self.is_speaking:
            return []
        return [self._sentinel] if self.is_deaf else [self._sentinel, self.pipe]

    def has_mail(self) -> bool:
        try:
            return not self.is_deaf and bool(self.pipe.poll())
        except (EOFError, OSError):
            return False

    def is_usable(self) -> bool:
        return (
            self.doomed is None
            and self.leaves is None
            and not self.is_buried
            and not self.is_deaf
            and self.left != 0
        )

    def give(self, task: Task) -> object:
        """The message with a task, and what it needs."""
        self.task, self.answered, self.has_begun = task, 0, False
        if self.left is not None:
            self.left = max(0, self.left - len(task.items))
        needed = [
            each
            for each in (task.function, task.context)
            if each is not None and each.number not in self._known
        ]
        for each in needed:
            self._remember(each)
        return (
            [(each.kind, each.number, each.data) for each in needed],
            [self._forgotten.popleft() for _ in range(len(self._forgotten))],
            task.kind,
            0 if task.function is None else task.function.number,
            0 if task.context is None else task.context.number,
            task.options.memory or 0,
            task.items,
        )

    def _remember(self, definition: Definition) -> None:
        number, known, forgotten = definition.number, self._known, self._forgotten

        def forget(_: object) -> None:  # at any time, in any thread
            known.pop(number, None)
            forgotten.append(number)

        known[number] = weakref.ref(definition, forget)

    def send(self, message: object) -> None:
        try:
            self.pipe.send(message)
        except (OSError, ValueError):
            self.is_deaf = True  # it has ended: the sentinel tells

    def begin(self) -> None:
        self.has_begun = True
        self._since = time.monotonic()

    def answer(self, size: int, busy: int, waited: int) -> None:
        """An item of its task is done."""
        assert self.task is not None
        self.answered += 1
        self._since = time.monotonic()
        self._tasks += 1
        self._busy += busy
        self._waited += waited
        self._pickled += size
        if self.answered == len(self.task.items):
            self.task = None

    def late_at(self) -> float | None:
        """When it is to be ended."""
        if self.task is None:
            return self.leaves
        if self.task.options.timeout is None or not self.has_begun:
            return None
        return self._since + self.task.options.timeout

    def verdict(self, exitcode: int) -> Reason | None:
        """Why the item that it was at, when it ended, is lost; None: it is not to blame."""
        if self.doomed is not None:
            task, answered, reason = self.doomed
            return reason if (task, answered) == (self.task, self.answered) else None
        return Reason("died", self.pid, exitcode) if self.has_begun else None

    def line(self) -> tuple[int, int, bool, int, int, int, int, int]:
        """For `Engine.workers`."""
        return (
            self.key,
            self.pid,
            self.task is None,
            self._started,
            self._tasks,
            self._busy,
            self._waited,
            self._pickled,
        )
