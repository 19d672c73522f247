"""The search of `race`: which thread goes on, tried in every way that matters, simplest first.

The algorithm is iterative context bounding (M. Musuvathi, S. Qadeer: Iterative context bounding
for systematic testing of multithreaded programs, PLDI 2007): first all runs without a preemption
(a switch away from a thread that could have gone on), then all with one, and so on, since most
bugs need few. Runs are not resumed but repeated up to the choice that is to differ.

Two things keep it small. Threads are switched only before operations on what at least two of
them were seen to use, and one to write; what is seen to be shared later has the search begin
anew. And where two beginnings of runs differ only in the order of operations that don't depend
on each other, they lead to the same state, and what follows is tried once: `Run.past` is the same
for both (A. Mazurkiewicz's traces, hashed as in CHESS).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from .race_engine import Player, Run
from .race_patches import Patches
from .race_points import Points
from .race_standins import makers
from .race_watch import watch

__all__ = ["Finding", "Game", "Kind", "Search", "search"]

Kind = Literal["invariant", "deadlock", "exception"]
Choices = tuple[int, ...]
Past = tuple[int, ...]
# A run to try: the choices of another one, up to where, what to choose there, and `Run.past` there.
Branch = tuple[Choices, int, int, Past]
_ROOT: Branch = ((), 0, -1, ())
_ENOUGH = 100  # runs of one number of preemptions, until one more is tried in turn


class Diverged(Exception):
    """A run that was repeated went another way."""


@dataclass
class Game:
    """What `race` was given, and what is known of it."""

    setup: Callable[[], Any]
    threads: Sequence[Callable[[Any], object]]
    invariant: Callable[[Any], bool]
    points: Points
    stall: float = 3.0

    def patches(self, is_quiet: bool = True) -> Patches:
        return Patches([self.setup, *self.threads, self.invariant], self.points, is_quiet)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Within, threads are told of their instructions."""
        watch.open()
        try:
            watch.prepare(self.points.codes)
            yield
        finally:
            watch.close()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call setup or invariant: what it makes are stand-ins."""
        me = threading.get_ident()
        makers.add(me)
        try:
            return function(*arguments)
        finally:
            makers.discard(me)

    def holds(self, state: Any) -> bool:
        """Whether the invariant does."""
        answer = self.call(self.invariant, state)
        if type(answer) is not bool and type(answer).__name__ not in ("bool", "bool_"):
            raise TypeError(f"invariant must return True or False, got {answer!r}")
        return bool(answer)

    def new_run(self, patches: Patches, choose: Any) -> Run:
        patches.renew()
        return Run(lambda: self.call(self.setup), self.threads, self.points, choose, patches.adopt)


@dataclass
class Finding:
    """A run that went wrong."""

    kind: Kind
    preemptions: int
    switches: int
    steps: list[Any]
    error: BaseException | None
    thread: int | None
    state: Any
    players: list[tuple[int, Any, list[int], str]] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int, int]:
        return self.preemptions, self.switches, len(self.steps)


@dataclass
class Search:
    """How the search went."""

    finding: Finding | None = None
    runs: int = 0
    bound: int = -1  # all runs up to so many preemptions were tried; -1: not even those without
    is_exhausted: bool = False
    trouble: str | None = None
    endless: int = 0
    diverged: int = 0
    seconds: float = 0.0
    left: list[Player] = field(default_factory=list)


class Chooser:
    """Follows given choices, and after them keeps to the thread that runs; notes what else there
    was to choose."""

    def __init__(self, prefix: Choices, past: Past) -> None:
        self.prefix = prefix
        self.past = past  # where the last of them is chosen, if the run is the same once more
        self.choices: list[int] = []
        self.forks: list[tuple[int, tuple[int, ...], tuple[int, ...], bool]] = []
        self.preemptions = 0
        self.has_diverged = False

    def __call__(self, run: Run, one: Player | None, ready: list[Player]) -> Player:
        at = len(self.choices)
        could_go_on = one is not None and one in ready and not one.has_yielded
        default = one if could_go_on and one is not None else ready[0]
        chosen = default
        if at < len(self.prefix):
            wanted = [other for other in ready if other.index == self.prefix[at]]
            if wanted:
                chosen = wanted[0]
            else:
                self.has_diverged = True
            if at + 1 == len(self.prefix) and run.past != self.past:
                self.has_diverged = True
        elif len(ready) > 1:
            others = tuple(other.index for other in ready if other is not default)
            self.forks.append((at, others, run.past, could_go_on))
        if could_go_on and chosen is not one:
            self.preemptions += 1
        self.choices.append(chosen.index)
        return chosen


class Follower:
    """Follows the order of a run's steps, whatever is known to be shared by now."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = order
        self.has_diverged = False

    def __call__(self, run: Run, one: Player | None, ready: list[Player]) -> Player:
        at = len(run.steps)
        wanted = [
            other for other in ready if at < len(self.order) and other.index == self.order[at]
        ]
        self.has_diverged |= not wanted
        return (wanted or ready)[0]


AnyChooser = TypeVar("AnyChooser", Chooser, Follower)


def _play(
    game: Game, patches: Patches, new_chooser: Callable[[], AnyChooser], deadline: float
) -> tuple[Run, AnyChooser, bool]:
    """One run. Whether it came to its end."""
    while True:
        chooser = new_chooser()
        run = game.new_run(patches, chooser)
        run.is_exact = isinstance(chooser, Follower)
        try:
            is_done = run.begin(game.stall, deadline)
        except BaseException:
            run.abandon()
            raise
        if not run.is_blind():
            return run, chooser, is_done


def judge(game: Game, run: Run, preemptions: int = 0) -> Finding | None:
    """What went wrong in a run that has ended, if anything has."""
    kind: Kind | None = None
    error, thread = None, None
    for one in run.players:
        if one.error is not None and error is None:
            kind, error, thread = "exception", one.error, one.index
    waiting: list[tuple[int, Any, list[int], str]] = []
    if kind is None and run.is_deadlock:
        kind = "deadlock"
        for one in run.players:
            if not one.is_done and (pending := one.pending) is not None:
                owners = [] if pending.thing is None else list(pending.thing.owners())
                place = f"{pending.file}:{pending.line}: {pending.source}"
                waiting.append((one.index, pending.thing, owners, place))
    if kind is None and not run.is_endless and not game.holds(run.state):
        kind = "invariant"
    if kind is None:
        return None
    order = [step.thread for step in run.steps]
    switches = sum(before != after for before, after in itertools.pairwise(order))
    return Finding(kind, preemptions, switches, run.steps, error, thread, run.state, waiting)


def play_again(
    game: Game, order: Sequence[int], is_quiet: bool = True
) -> tuple[Finding | None, Run]:
    """Repeat a run.

    Args:
        game: the program.
        order: the threads, by index, in the order of the run's steps.
        is_quiet: whether to swallow what the threads print.

    Raises:
        Diverged: it went another way.
    """
    with game.watched(), game.patches(is_quiet) as patches:
        run, follower, is_done = _play(
            game, patches, lambda: Follower(order), time.monotonic() + 60
        )
        try:
            found = judge(game, run) if is_done else None
        finally:
            run.abandon()
        if follower.has_diverged or not is_done or len(run.steps) != len(order):
            raise Diverged
        return found, run


def search(game: Game, budget: float) -> Search:
    """Try the runs of a program, until one goes wrong, all are tried, or time is over."""
    result = Search()
    began = time.monotonic()
    ending: list[Player] = []  # what they had to do they have done
    with game.watched(), game.patches() as patches:
        try:
            _search(game, patches, result, began + budget, ending)
        finally:
            for one in ending:
                one.thread.join()
    result.seconds = time.monotonic() - began
    return result


def _search(
    game: Game, patches: Patches, result: Search, deadline: float, ending: list[Player]
) -> None:
    began = time.monotonic()
    best: Finding | None = None
    other_best: Finding | None = None  # found before all was known that is shared
    # Branches by their number of preemptions, from `bound` on; and what was tried, with how many.
    levels: list[list[Branch]] = [[_ROOT], []]
    seen: dict[Any, int] = {}
    bound = 0
    runs_here = 0
    while True:
        if not levels[0]:
            if best is not None:
                break
            result.bound = bound
            if not levels[1]:
                result.is_exhausted = not result.endless and not result.diverged
                break
            levels = [levels[1][::-1], levels[2] if len(levels) > 2 else []]
            bound, runs_here = bound + 1, 0
        if time.monotonic() > deadline:
            break
        # Of many threads there are more orders than can be tried: one more preemption in turn.
        ahead = int(runs_here > _ENOUGH and runs_here % 2 == 1 and bool(levels[1]))
        runs_here += 1
        base, length, instead, past_there = levels[ahead].pop()
        if seen.get((past_there, instead), bound + ahead) < bound + ahead:
            continue  # done, with fewer
        prefix = (*base[:length], instead) if instead >= 0 else ()
        run, chooser, is_done = _play(
            game, patches, partial(Chooser, prefix, past_there), deadline + 0.2
        )
        finding = None
        try:
            if is_done:
                ending[:] = [one for one in (*ending, *run.players) if one.thread.is_alive()]
                finding = judge(game, run, chooser.preemptions)
        finally:
            if not is_done or not run.is_over or run.is_deadlock or run.is_endless:
                result.left = run.abandon()
        if not is_done:
            if result.left or run.ticks == 0 or time.monotonic() <= deadline:
                result.trouble = (
                    f"{run.running.name if run.running else 'a thread'} does not come back from "
                    f"{run.stuck_at}"
                )
            break
        result.runs += 1
        result.endless += run.is_endless
        result.diverged += chooser.has_diverged
        if game.points.has_grown and best is None:
            # More is shared than was known: what was tried until now left something out.
            game.points.has_grown = False
            other_best = finding or other_best
            if finding is None or finding.preemptions > 0:
                levels, bound, runs_here = [[_ROOT], []], 0, 0
                seen.clear()
                result.runs = result.endless = result.diverged = 0
                result.bound = -1
                continue
        if finding is not None and (best is None or finding.size < best.size):
            if best is None:
                # Of those with as few preemptions, the shortest that a look around finds.
                now = time.monotonic()
                deadline = min(deadline, now + max(0.2, min(1.0, now - began)))
                levels[1:] = [[]]
            best = finding
        choices = tuple(chooser.choices)
        for at, others, past, could_go_on in chooser.forks:
            seen[past, choices[at]] = min(ahead + bound, seen.get((past, choices[at]), bound + 2))
            for other in others:
                level = ahead + int(could_go_on)
                if seen.get((past, other), bound + 3) <= level + bound:
                    continue
                if could_go_on and best is not None:
                    continue
                seen[past, other] = level + bound
                while len(levels) <= level:
                    levels.append([])
                levels[level].append((choices, at, other, past))
    result.finding = best or other_best
