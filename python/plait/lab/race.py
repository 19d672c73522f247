"""`race`: find an interleaving of threads that breaks a promise, show it, repeat it, step it."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from .race_explore import Diverged, Finding, Game, Search, play_again, search
from .race_points import Points
from .race_show import columns, html, is_shown
from .race_step import Stepper

__all__ = ["RaceReport", "race"]


_ENOUGH = 2  # preemptions that a bound must have to be called a proof: most races need fewer


class RaceReport:
    """What `race` found.

    Attributes:
        found: whether an interleaving was found that goes wrong.
        kind: what goes wrong: "invariant", "deadlock" or "exception"; None: nothing was found.
        schedule: the threads in the order of their steps, by index; empty: nothing was found.
        preemptions: how often a thread is stopped in it that could have gone on.
        explanation: the steps as columns, one a thread; or what was tried, and how far that is a
            proof.
        explored: how many interleavings were tried.
        bound: all interleavings up to so many preemptions were tried; -1: not even all without.
        exhausted: all interleavings there are were tried.
        proved: nothing was found, all there are were tried, or all up to `bound` (at least 2),
            and nothing was met that `race` cannot see into.
        deterministic: whether repeating what was found led to the same end.
        error: what a thread raised, if that is what was found.
        cycle: if a deadlock was found, the threads as `plait.errors.DeadlockParty`.
        state: the state at the end of what was found.
        trouble: why the search ended early, if it did.
        unseen: what was met that `race` cannot see into, and where, so that nothing is proved.
        seconds: how long it took.
    """

    def __init__(self, game: Game, result: Search) -> None:
        self._game = game
        self._finding = result.finding
        self.explored = result.runs
        self.bound = result.bound
        self.exhausted = result.is_exhausted
        self.seconds = result.seconds
        self.trouble = result.trouble
        self.endless = result.endless
        self.deterministic = not result.diverged
        found: Finding | None = result.finding
        self.found = found is not None
        self.kind = None if found is None else found.kind
        self.preemptions = 0 if found is None else found.preemptions
        self.schedule = [] if found is None else [step.thread for step in found.steps]
        self.error = None if found is None else found.error
        self.state = None if found is None else found.state
        self.unseen = [] if self.found else list(game.points.unseen)
        self.exhausted = self.exhausted and not self.unseen
        self.proved = (
            not (self.found or self.trouble or self.unseen or self.endless)
            and (self.exhausted or self.bound >= _ENOUGH)
            and self.deterministic
        )
        self.cycle = [] if found is None else _parties(found)
        if found is not None:
            self.deterministic = self._repeats(found)

    def _repeats(self, found: Finding) -> bool:
        try:
            again, _ = play_again(self._game, self.schedule)
        except Diverged:
            return False
        return again is not None and again.kind == found.kind

    @property
    def explanation(self) -> str:
        """The steps as columns, or what was tried."""
        parts = [self.verdict]
        if self._finding is not None:
            parts.append(columns(self._finding, len(self._game.threads), self._game.points))
        return "\n\n".join(parts)

    @property
    def verdict(self) -> str:
        """In a sentence or two: what was found, or what was tried."""
        plural = "interleaving" if self.explored == 1 else "interleavings"
        found = self._finding
        if found is None:
            return " ".join(part for part in self._not_found(plural) if part)
        times = {0: "no preemption", 1: "1 preemption"}.get(
            found.preemptions, f"{found.preemptions} preemptions"
        )
        if found.kind == "deadlock":
            what = "deadlock: " + "; ".join(
                f"{party.name} waits for {party.waits_for}" for party in self.cycle
            )
        elif found.kind == "exception":
            error = f"{type(found.error).__name__}: {found.error}"
            what = f"thread {(found.thread or 0) + 1} raises {error}"
        else:
            what = "the invariant does not hold at the end"
        text = f"Found after {self.explored} {plural}, with {times}: {what}."
        if not self.deterministic:
            text += " Repeated, it went another way: the threads depend on more than their order."
        return text

    def _not_found(self, plural: str) -> list[str]:
        if self.exhausted:
            head = (
                f"Nothing found, and nothing is left to try: explored all {self.explored} {plural}."
            )
        elif self.bound >= 0:
            head = (
                f"Nothing found: explored {self.explored} {plural}, all of those up to "
                f"{self.bound} {'preemption' if self.bound == 1 else 'preemptions'}."
            )
        else:
            head = (
                f"Nothing found: explored {self.explored} of the {plural} up to 0 preemptions when "
                "the budget ended."
            )
        if not self.exhausted and self.bound < _ENOUGH and not self.unseen and not self.trouble:
            head += " That is no proof: most races need one or two; give it a larger budget."
        return [
            head,
            f"{self.endless} of them did not end." if self.endless else "",
            ""
            if self.deterministic
            else "Repeated, some went another way: the threads depend on more than their order.",
            f"It ended early: {self.trouble}, which race() cannot see into."
            if self.trouble
            else "",
            f"This is no proof, as race() cannot see into all of it: {'; '.join(self.unseen[:3])}."
            if self.unseen
            else "",
        ]

    def replay(self) -> Any:
        """Run what was found once more, step by step the same; what threads print is shown.

        Returns:
            The state at its end, made by `setup` anew.

        Raises:
            RuntimeError: nothing was found; or the threads went another way this time.

        >>> from plait.lab import races
        >>> report = races.exhibits()["lost-update"].race()
        >>> report.replay().value, report.replay().value
        (1, 1)
        """
        if self._finding is None:
            raise RuntimeError("nothing was found that could be replayed")
        try:
            _, run = play_again(self._game, self.schedule, is_quiet=False)
        except Diverged:
            raise RuntimeError(
                "the threads went another way: they depend on more than their order, "
                "such as time, random numbers or the network"
            ) from None
        return run.state

    def step(self) -> Stepper:
        """A run that goes on when you say so, forwards and back; you are the scheduler.

        Returns:
            A `Stepper`; what was found, if something was, is the way it goes by itself.

        >>> from plait.lab import races
        >>> with races.exhibits()["lost-update"].race().step() as stepper:
        ...     stepper.forward(0)
        ...     stepper.forward(1)
        ...     stepper.back()
        ...     [thread.status for thread in stepper.threads]
        ['ready', 'ready']
        """
        steps = [] if self._finding is None else self._finding.steps
        shown = [step.thread for step in steps if is_shown(step, self._game.points)]
        return Stepper(self._game, shown)

    def to_dict(self) -> dict[str, Any]:
        """All of it but the objects, for JSON."""
        steps = [] if self._finding is None else self._finding.steps
        return {
            "found": self.found,
            "kind": self.kind,
            "verdict": self.verdict,
            "preemptions": self.preemptions,
            "schedule": self.schedule,
            "steps": [
                {
                    "thread": step.thread,
                    "file": step.file,
                    "line": step.line,
                    "source": step.source,
                    "what": step.text,
                    "values": step.values,
                }
                for step in steps
            ],
            "explored": self.explored,
            "bound": self.bound,
            "exhausted": self.exhausted,
            "proved": self.proved,
            "deterministic": self.deterministic,
            "endless": self.endless,
            "trouble": self.trouble,
            "unseen": self.unseen,
            "error": None if self.error is None else repr(self.error),
            "seconds": self.seconds,
        }

    def to_json(self) -> str:
        """`to_dict`, as text."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        return self.explanation

    def __repr__(self) -> str:
        return f"<RaceReport: {self.verdict}>"

    def _repr_html_(self) -> str:
        return html(self.verdict, self._finding, len(self._game.threads), self._game.points)


def _parties(found: Finding) -> list[Any]:
    from traceback import FrameSummary, StackSummary

    from plait.errors import DeadlockParty

    from .race_show import names_of

    if found.kind != "deadlock":
        return []
    names = names_of(found.state)
    parties = []
    for index, thing, _, place in found.players:
        file, line, source = place.split(":", 2)
        frame = FrameSummary(file, int(line), f"thread {index + 1}", line=source.strip())
        parties.append(
            DeadlockParty(
                name=f"thread {index + 1}",
                holds=[names(other) for _, other, owners, _ in found.players if index in owners],
                waits_for=names(thing),
                stack=StackSummary.from_list([frame]),
            )
        )
    return parties


def race(
    setup: Callable[[], Any],
    threads: Sequence[Callable[[Any], object]],
    invariant: Callable[[Any], bool],
    *,
    budget: float = 10.0,
) -> RaceReport:
    """Look for an interleaving of threads after which a promise is broken.

    The threads are run over and over, one step at a time, in every order that matters: first
    without stopping a thread that could go on, then with one such preemption, and so on. A step
    is an access to an attribute, a global or a closure's variable, an item, a list or a dict, or
    an operation of a lock, queue, condition ... of `threading`, `queue` or plait. So it finds what
    the interpreter allows, even if the thread switches of today's CPython make it rare. A deadlock
    and an exception in a thread are found as well.

    What is not seen: calls into the standard library and installed packages are one step each;
    what they do to objects that are not given to them is unknown, but that all files count as one
    place. A thread that waits for something else than a lock of these kinds, such as a socket,
    ends the search, and that is said. Where something is met that cannot be seen into, such as an
    object's `__dict__`, a time limit that could end early, a database, random numbers or
    `copy.copy` of what is shared, nothing is proved: see `unseen`.

    Args:
        setup: makes the state that the threads share; called before each run.
        threads: one function for each thread, called with the state.
        invariant: what must be true of the state when all threads have ended.
        budget: seconds after which to give up.

    Returns:
        A `RaceReport`.

    Raises:
        TypeError: something cannot be called, or is an async or a generator function, of which
            a call runs nothing; or the invariant gave neither True nor False.
        ValueError: there are no threads, or the budget is not a positive number.
        Exception: what setup or the invariant raises.

    >>> from plait.lab import race
    >>> def add_one(counts):
    ...     seen = counts["all"]
    ...     counts["all"] = seen + 1
    >>> report = race(lambda: {"all": 0}, [add_one, add_one], lambda counts: counts["all"] == 2)
    >>> report.found, report.preemptions, report.schedule
    (True, 1, [0, 1, 1, 0])
    >>> report.replay()
    {'all': 1}
    """
    return _race(setup, threads, invariant, budget)


def _refuse_unawaited(name: str, one: Any) -> None:
    call = (
        one if inspect.isroutine(one) or isinstance(one, functools.partial) else type(one).__call__
    )
    for function in (one, call):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"{name} is an async function, {one!r}: calling it runs nothing of it; give a "
                "plain function, such as lambda state: asyncio.run(function(state))"
            )
        if inspect.isgeneratorfunction(function):
            raise TypeError(
                f"{name} is a generator function, {one!r}: calling it runs nothing of it; give a "
                "plain function, such as lambda state: list(function(state))"
            )


def _race(setup: Any, threads: Any, invariant: Any, budget: Any, stall: float = 3.0) -> RaceReport:
    for name, one in (("setup", setup), ("invariant", invariant)):
        if not callable(one):
            raise TypeError(f"{name} must be callable, got {one!r}")
    if callable(threads) or isinstance(threads, (str, bytes)):
        raise TypeError(f"threads must be a sequence of functions, got {threads!r}")
    threads = list(threads)
    if not threads:
        raise ValueError("threads is empty: give a function for each thread")
    for index, one in enumerate(threads):
        if not callable(one):
            raise TypeError(f"threads[{index}] must be callable, got {one!r}")
        _refuse_unawaited(f"threads[{index}]", one)
    for name, one in (("setup", setup), ("invariant", invariant)):
        _refuse_unawaited(name, one)
    if isinstance(budget, bool) or not isinstance(budget, (int, float)):
        raise TypeError(f"budget must be a number of seconds, got {budget!r}")
    if not budget > 0 or math.isinf(budget):
        raise ValueError(f"budget must be a positive number of seconds, got {budget!r}")
    game = Game(setup, threads, invariant, Points([setup, *threads, invariant]), stall)
    return RaceReport(game, search(game, float(budget)))
