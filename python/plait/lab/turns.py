"""One turn of a model: its workers' start, a run, their end; here or in a process of its own."""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .clocks import Cost, measured, sampled
from .same import first_difference
from .sessions import Job, Session, TimedOut

__all__ = ["Guard", "Turn", "say", "silent", "take_turn", "time_limit"]

Open = Callable[[Job, int], Session]


@dataclass
class Turn:
    """What one turn gave.

    Attributes:
        startup: seconds until the workers were ready.
        cost: of the run.
        lanes: over how many threads or processes the work was spread.
        results: the tasks' results; None if only `value` is known.
        value: what is combined of them.
        printed: how many characters the tasks printed from this process.
        dispatch: seconds that it costs to hand over a task that does nothing, if asked for.
        seen: seconds that the workers' threads were seen in each state while they were in
            tasks; None if nobody looked.
        changed: where the task has changed its input; None if it has not, as far as can be told.
    """

    startup: float
    cost: Cost = field(default_factory=Cost)
    lanes: int = 1
    results: list[Any] | None = None
    value: Any = None
    printed: int = 0
    dispatch: float | None = None
    changed: str | None = None
    seen: dict[str, float] | None = None


class Guard:
    """Notices when tasks change their input.

    Args:
        items: the input; it is pickled now, and after each turn again.
    """

    def __init__(self, items: Any) -> None:
        self._items = items
        self._pickled = self._pickle()

    def _pickle(self) -> bytes | None:
        try:
            return pickle.dumps(self._items, protocol=5)
        except Exception:  # whatever a reducer raises: then it cannot be told
            return None

    def change(self) -> str | None:
        """Where the items differ from what they were; None if they don't."""
        if self._pickled is None or self._pickle() in (None, self._pickled):
            return None
        try:
            before = pickle.loads(self._pickled)
            # Equal content may be pickled in other ways, such as sets.
            found = first_difference(before, self._items)
        except Exception:
            return "its pickle is another one"
        return found if found is None or found.decided else "its pickle is another one"


class _Sink(io.TextIOBase):
    """Stands for sys.stdout while tasks run: their output would come once a run and model."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self.count += len(text)
        return len(text)


@contextlib.contextmanager
def silent() -> Iterator[_Sink]:
    """What tasks print meanwhile is counted, and not shown."""
    sink = _Sink()
    with contextlib.redirect_stdout(sink):
        yield sink


def take_turn(
    open_session: Open,
    job: Job,
    workers: int,
    *,
    guard: Guard | None = None,
    dispatch: bool = False,
    sample: bool = False,
) -> Turn:
    """One start, run and end.

    Args:
        open_session: makes the session.
        job: what to run.
        workers: on how many.
        guard: looks whether the tasks have changed their input.
        dispatch: also measure what it costs to hand a task over.
        sample: also look what its threads do, a thousand times a second.
    """
    gc.collect()  # one model's garbage is not another's to clear away
    with silent() as sink:
        start = time.perf_counter()
        with open_session(job, workers) as session:
            turn = Turn(time.perf_counter() - start)
            with sampled(session, sample) as turn.seen, measured(session) as turn.cost:
                if session.combined:
                    turn.value = session.run()
                else:
                    turn.results = session.run()
                    turn.value = job.combine(turn.results)
            turn.lanes = session.lanes
            if turn.seen is not None and turn.cost.metered:
                # What workers wait for between tasks is the lock of the queue that those come by.
                between = turn.lanes * turn.cost.wall - turn.cost.busy
                locks = turn.seen.get("wait_lock", 0.0)
                turn.seen["wait_lock"] = max(0.0, locks - max(0.0, between))
            if dispatch:
                turn.dispatch = session.dispatch_cost()
    turn.printed = sink.count
    turn.changed = guard.change() if guard is not None else None
    return turn


# Characters of a reason: some exceptions have the whole of a result in their message.
_LONGEST = 400
# What dask puts between an exception's message and a traceback.
_TRACEBACK = "\n\nTraceback\n---------\n"


def say(error: BaseException) -> str:
    """One line, as the interpreter would end a traceback with; a long one without its middle."""
    lines = traceback.format_exception_only(error)
    notes = sum(str(note).count("\n") + 1 for note in getattr(error, "__notes__", ()))
    last = lines[max(0, len(lines) - 1 - notes)]
    text = " ".join(last.partition(_TRACEBACK)[0].split())
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimedOut` in this thread after so many seconds.

    By SIGALRM, which also ends a sleep or a wait for a lock: so only in the main thread, where
    nobody else uses that signal. Elsewhere there is no limit.

    Raises:
        TimedOut: the block took longer.
    """
    if (
        sys.platform == "win32"
        or threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL
        or signal.getitimer(signal.ITIMER_REAL)[0]
    ):
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise TimedOut

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
