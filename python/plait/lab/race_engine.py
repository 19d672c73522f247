"""One run of `race`: the threads of a program, of which exactly one goes on at a time.

Each thread is a real one. It stops before each of its operations on what threads may share, and
hands a baton (a lock of its own) to the thread that is chosen to go on; everything between two
operations happens undisturbed. So a run is a function of the choices alone, and can be repeated.
An operation is an access that a trace function sees coming (`race_points`), or one of a lock or
of its kin, for which stand-ins are there while a run lasts (`race_standins`); a stand-in's
operation tells by `Operation.is_ready` whether it could go on, so that a thread which waits is
known to wait, and a run in which all wait is known to be a deadlock.
"""

from __future__ import annotations

import _thread
import linecache
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from plait.thread import Thread

from .race_look import Glance
from .race_points import Access, Place, Points, Touch
from .race_watch import watch

__all__ = ["Abandoned", "Operation", "Player", "Run", "player"]

_STEPS = 20_000  # of a run, until it counts as one that doesn't end
_TURN = 1_000  # steps of a thread in a row, until another one that could go on does so
_LOOK = 0.05  # seconds between looks whether a thread still does something


class Abandoned(BaseException):
    """Raised in the threads of a run that is given up, so that they end."""


class Operation:
    """What a thread is about to do, or has done, to something that threads may share.

    Attributes:
        text: what it does, in words, such as "acquires lock".
        file: where.
        line: where.
        touches: the places in memory that it reads or writes.
        site: the instruction; None: an operation of a lock or of its kin.
        is_ready: whether it can go on; None: always.
        timeout: seconds after which it goes on anyhow.
        thing: the stand-in whose operation it is.
        yields: the thread would rather have others go on first, as in `time.sleep`.
        values: what was read, and what was written, in words.
        access: how to look at what it writes, once it has.
    """

    # No dataclass: the code that it would generate belongs to no file, and would be followed.
    def __init__(
        self,
        text: str,
        file: str,
        line: int,
        touches: Sequence[Touch],
        *,
        site: tuple[CodeType, int] | None = None,
        is_ready: Callable[[], bool] | None = None,
        timeout: float | None = None,
        thing: Any = None,
        yields: bool = False,
        access: Access | None = None,
    ) -> None:
        self.text = text
        self.file = file
        self.line = line
        self.touches = touches
        self.site = site
        self.is_ready = is_ready
        self.timeout = timeout
        self.thing = thing
        self.yields = yields
        self.access = access
        self.values: list[str] = []
        self.has_timed_out = False
        self.thread = -1

    @property
    def source(self) -> str:
        """The line of the program."""
        return linecache.getline(self.file, self.line).strip()


class Player:
    """A thread of a run."""

    def __init__(self, run: Run, index: int, target: Callable[[Any], object]) -> None:
        self.run = run
        self.index = index
        self.target = target
        self.name = f"thread {index + 1}"
        self.gate = _thread.allocate_lock()
        self.gate.acquire()
        self.is_done = False
        self.is_leaving = False
        self.has_yielded = False
        self.pending: Operation | None = None
        self.written: tuple[Operation, Glance] | None = None  # what it is just writing
        self.error: BaseException | None = None
        self.past = index  # a hash of all that it has done, and of what that depended on
        self.thread = Thread(target=self._play, name=self.name, daemon=True)

    def can_go_on(self) -> bool:
        """Whether it neither has ended nor waits."""
        pending = self.pending
        return not self.is_done and (
            pending is None or pending.is_ready is None or pending.is_ready()
        )

    def _play(self) -> None:
        run = self.run
        _players[threading.get_ident()] = self
        self.gate.acquire()
        try:
            if not run.is_abandoned:
                watch.tell(self._follow, run.points.is_followed, self._refuse)
                self._call()
        except (Abandoned, SystemExit):
            pass
        except BaseException as error:
            if not run.is_abandoned:
                self.error = error
        finally:
            watch.let()
            self._look_at_written(None)
            del _players[threading.get_ident()]
            self.is_done = True
            self.pending = None
            run.has_ended(self)

    def _call(self) -> None:
        target, run = self.target, self.run
        if not run.points.is_python(target):
            what = getattr(target, "__name__", type(target).__name__)
            if not run.points.is_contents(run.state):
                run.points.is_unseen(f"{self.name}: what {what} does is not looked into")
            touches = [((id(run.state), "[]"), True)]
            self.step(Operation(f"calls {what}", "", 0, touches))
        result = target(run.state)
        if isinstance(result, CoroutineType):
            result.close()
            raise TypeError(
                f"{self.name} gave a coroutine that nobody runs: call asyncio.run with it"
            )
        if isinstance(result, GeneratorType):
            run.points.is_unseen(f"{self.name}: it gives a generator, of which nothing is run")

    def _refuse(self, code: CodeType) -> None:
        """A function that cannot be looked into yet."""
        if not self.is_leaving:
            self.run.unknown_code = code
            self.run.is_abandoned = True
            self._leave()

    def _leave(self) -> None:
        self.is_leaving = True
        raise Abandoned

    def _follow(self, frame: FrameType, offset: int) -> None:
        run = self.run
        run.ticks += 1
        if run.is_abandoned:
            if self.is_leaving:  # in a finally block, or a generator that is being closed
                return
            self._leave()
        if self.written is not None:
            self._look_at_written(frame)
        access = run.points.of(frame.f_code).get(offset)
        if access is not None:
            glance = Glance(frame, run.loaded)
            touches = access.touches(glance, run)
            if touches:
                self._access(glance, access, touches)
            else:
                access.note_load(glance, False)

    def _access(self, glance: Glance, access: Access, touches: Sequence[Touch]) -> None:
        frame = glance.frame
        operation = Operation(
            text=access.text,
            file=frame.f_code.co_filename,
            line=access.line,
            touches=touches,
            site=access.site,
            access=access,
        )
        writes = access.writes  # another thread that comes by here may change it
        self.step(operation)
        if writes:
            self.written = (operation, glance)
        elif words := access.words(glance, "reads"):
            operation.values.append(words)
        access.note_load(glance, access.site in self.run.points.shared)

    def _look_at_written(self, frame: FrameType | None) -> None:
        if self.written is None:
            return
        operation, place = self.written
        if frame is None or place.frame is frame:
            self.written = None
            if operation.access is not None and (words := operation.access.words(place, "writes")):
                operation.values.append(words)

    def step(self, operation: Operation) -> None:
        """Wait for one's turn to do this; then do it."""
        run = self.run
        if run.is_abandoned:
            if self.is_leaving and operation.is_ready is None:
                return
            self._leave()
        operation.thread = self.index
        self.pending = operation
        self.has_yielded = operation.yields
        is_late = operation.timeout is not None and not (
            operation.is_ready is None or operation.is_ready()
        )
        run.pass_on(self)
        if run.is_abandoned:
            self._leave()
        if operation.is_ready is not None and not operation.is_ready():
            operation.has_timed_out = True
        elif is_late:
            run.points.is_unseen(
                f"line {operation.line} of {operation.file}: that its time limit ends while others "
                "could still go on is not tried"
            )
        self.pending = None
        run.note(self, operation)


_players: dict[int, Player] = {}


def player() -> Player | None:
    """The thread of a run that calls this, if it is one."""
    return _players.get(threading.get_ident())


class Run:
    """A program's threads, from `setup` to their end.

    Args:
        setup: makes the state.
        targets: the threads' functions.
        points: which instructions to stop at.
        choose: is given the run, the thread that stops (None: none has begun, or it has ended),
            and those that can go on, and gives one of these; or None, to have the caller of
            `go_on` choose.
        adopt: is given the state before the threads begin, and gives it back.
    """

    def __init__(
        self,
        setup: Callable[[], Any],
        targets: Sequence[Callable[[Any], object]],
        points: Points,
        choose: Callable[[Run, Player | None, list[Player]], Player | None],
        adopt: Callable[[Any], Any],
    ) -> None:
        self.points = points
        self.choose = choose
        self.is_exact = False  # whether each step is a choice, of nobody's interest or not
        self.is_abandoned = False
        self.unknown_code: CodeType | None = None  # it came to a function that is not prepared
        self.is_endless = False
        self.is_over = False
        self.is_deadlock = False
        self.ticks = 0
        self.turn = 0
        self.running: Player | None = None
        self.steps: list[Operation] = []
        self.loaded: dict[tuple[int, Any], Any] = {}  # see `Glance`
        self.kept: dict[int, Any] = {}  # so that no address is used twice
        self._control = _thread.allocate_lock()
        self._control.acquire()
        self._has_begun = False  # whether all have come to their first operation
        self._last_write: dict[Place, int] = {}
        self._reads: dict[Place, int] = {}
        self._users: dict[Any, tuple[set[int], set[int], set[Any]]] = {}
        self.state = adopt(setup())
        self.players = [Player(self, index, target) for index, target in enumerate(targets)]
        self._unbegun = list(self.players)

    # ---- called by the one who looks on -----------------------------------------------------

    def begin(self, stall: float, deadline: float) -> bool:
        """Bring each thread to its first operation, and go on until the choice is the caller's.

        Returns:
            As `go_on`.
        """
        for one in self.players:
            one.thread.start()
        return self.go_on(self._unbegun.pop(0), stall, deadline)

    def go_on(self, one: Player, stall: float, deadline: float) -> bool:
        """Let a thread go on, and whomever `choose` says, until the choice is the caller's again.

        Returns:
            False: time is over, or (`running` tells the thread) nothing happens any more.
        """
        self.running = one
        one.gate.release()
        # Looks are counted, not seconds: a machine that stands still doesn't look either.
        seen, looks = self.ticks, 0
        while not self._control.acquire(timeout=_LOOK):
            looks += 1
            if seen != self.ticks:
                seen, looks = self.ticks, 0
                if time.monotonic() > deadline:
                    return False
            elif looks * _LOOK > stall:
                return False
        return True

    def abandon(self, patience: float = 2.0) -> list[Player]:
        """End all threads. Those that could not be ended within these seconds."""
        self.is_abandoned = True
        limit = time.monotonic() + patience
        left = [one for one in self.players if one.thread.ident is not None]
        try:
            while left:  # one after the other
                one = left.pop()
                if one.gate.locked():
                    one.gate.release()
                one.thread.join(max(0.0, limit - time.monotonic()))
        finally:
            for one in left:  # ^C once more
                if one.gate.locked():
                    one.gate.release()
        return [one for one in self.players if one.thread.is_alive()]

    def is_blind(self) -> bool:
        """Whether it has to be repeated, as it came to a function that it could not look into."""
        if self.unknown_code is None:
            return False
        self.abandon()
        watch.prepare([self.unknown_code])
        return True

    @property
    def stuck_at(self) -> str:
        """Where the running thread is, in words."""
        one = self.running
        frame = None if one is None else sys._current_frames().get(one.thread.ident or 0)
        while frame is not None and not self.points.is_followed(frame.f_code):
            frame = frame.f_back
        if frame is None:
            return "an unknown place"
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        return f"line {frame.f_lineno} of {frame.f_code.co_filename}: {line}"

    # ---- called by the thread that has the baton ----------------------------------------------

    def can_go_on(self) -> list[Player]:
        """The threads of which one may be chosen."""
        ready = [one for one in self.players if one.can_go_on()]
        eager = [one for one in ready if not one.has_yielded]
        if eager or ready:
            return eager or ready
        timed = [one for one in self.players if one.pending and one.pending.timeout is not None]
        timed.sort(key=lambda one: (one.pending and one.pending.timeout) or 0)
        return timed[:1]  # time passes when nobody can do anything else

    def _next(self, one: Player | None) -> Player | None:
        if self._unbegun:
            return self._unbegun.pop(0)
        if not self._has_begun:
            self._has_begun = True
            one = None
        ready = self.can_go_on()
        if not ready:
            self.is_over = True
            self.is_deadlock = any(not other.is_done for other in self.players)
            return None
        self.turn = self.turn + 1 if one is not None else 0
        if len(self.steps) >= _STEPS:
            self.is_over = self.is_endless = True
            return None
        if one in ready and len(ready) > 1 and self.turn > _TURN:
            ready = [other for other in ready if other is not one]
        elif one in ready and not self.is_exact and not self._matters(one):
            return one
        return self.choose(self, one, ready)

    def _matters(self, one: Player | None) -> bool:
        """Whether what it does next is known to be anybody else's business."""
        site = None if one is None or one.pending is None else one.pending.site
        return site is None or site in self.points.shared

    def pass_on(self, one: Player) -> None:
        """Stop, and go on when one is chosen to."""
        chosen = self._next(one)
        if chosen is one:
            return
        self._hand_over(chosen)
        one.gate.acquire()

    def has_ended(self, one: Player) -> None:
        """A thread has ended: another one goes on."""
        if self.is_abandoned:
            self._control_back()
            return
        self._hand_over(self._next(None))

    def _hand_over(self, chosen: Player | None) -> None:
        if chosen is None:
            self._control_back()
            return
        self.turn = 0
        self.running = chosen
        chosen.gate.release()

    def _control_back(self) -> None:
        if self._control.locked():
            self._control.release()

    def note(self, one: Player, operation: Operation) -> None:
        """An operation is being done: who depends on whom, and who shares what with whom."""
        self.ticks += 1
        self.steps.append(operation)
        for other in self.players:
            if other is not one:
                other.has_yielded = False
        for touch, writes in operation.touches:
            readers, writers, sites = self._users.setdefault(touch, (set(), set(), set()))
            (writers if writes else readers).add(one.index)
            sites.add(operation.site)
            if len(writers) > 1 or (writers and readers - writers):
                self.points.share(sites)
        if operation.site is not None and operation.site not in self.points.shared:
            return
        past: list[Any] = [one.index, one.past]
        for touch, writes in operation.touches:
            past.append(self._last_write.get(touch))
            if writes:
                past.append(self._reads.get(touch))
        one.past = hash(tuple(past))
        for touch, writes in operation.touches:
            if writes:
                self._last_write[touch] = one.past
                self._reads.pop(touch, None)
            else:  # reads of the same value may come in any order
                self._reads[touch] = self._reads.get(touch, 0) ^ one.past

    @property
    def past(self) -> tuple[int, ...]:
        """The same for two beginnings of runs that led to the same state."""
        return tuple(one.past for one in self.players)
