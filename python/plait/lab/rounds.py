"""The rounds of a comparison: each model's turn, again and again, until the spread settles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .clocks import Cost
from .models import Model
from .report import Row
from .runner import Crashed, Failed, Runner
from .same import Difference, first_difference
from .sessions import Job, TimedOut
from .shares import Waits, find_shares
from .turns import Guard, Turn, say, take_turn, time_limit
from .verdict import seconds

__all__ = ["BUDGET_S", "Entry", "Progress", "Rounds"]

Progress = Callable[[str, int, int], None]

# A comparison of a named workload ends within a minute, also on a machine that is busy: no
# round is begun that would end later than this, in seconds.
BUDGET_S = 40.0
# How long one turn may take, unless the caller says: serial's, and the others' at least; but of a
# named workload no more than what is left of the budget, or so much.
LIMIT_S = 30.0
LEAST_S = 5.0
# A model is run again, up to so many times as often as was asked for, for at most so many
# seconds, while the middle half of its runs is wider than this share of their median.
MORE, MORE_S, SETTLED = 3, 6.0, 0.05
# Results of these cannot change: large ones needn't be kept to see whether they do.
_FIXED = frozenset({int, float, complex, str, bytes, bool, type(None)})
_DIFFERS = "refused, its result differs from serial's"
# Tasks that are rehearsed in a process of its own under serial for longer aren't under others.
REHEARSAL_S = 6.0


@dataclass
class Entry:
    """A model on its way through the rounds."""

    model: Model
    workers: int
    language: str  # of the task that it runs: a caller's async def is Python also on tokio
    listed: bool = True  # False: run for a cell only
    reason: str | None = None
    lanes: int = 1
    startups: list[float] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    printed: int = 0
    dispatch: float | None = None
    seen: dict[str, float] | None = None
    runner: Runner | None = None
    warm: Turn | None = None

    def median(self, figure: str) -> float:
        """The median of one of `Cost`'s figures."""
        return float(statistics.median(getattr(cost, figure) for cost in self.costs))

    @property
    def walls(self) -> list[float]:
        return [cost.wall for cost in self.costs]

    @property
    def startup(self) -> float:
        return float(statistics.median(self.startups))

    def middle(self) -> Cost:
        """The run whose time is the median; the lower one of two."""
        return sorted(self.costs, key=lambda cost: cost.wall)[(len(self.costs) - 1) // 2]

    def unsettled(self) -> bool:
        """Whether the middle half of the runs is wide."""
        if len(self.costs) < 3:
            return False
        low, middle, high = statistics.quantiles(self.walls, n=4, method="inclusive")
        return high - low > SETTLED * middle

    def outliers(self) -> int:
        """Runs that took far longer than the others: 3 quartile ranges above the upper one."""
        if len(self.costs) < 4:
            return 0
        low, middle, high = statistics.quantiles(self.walls, n=4, method="inclusive")
        limit = high + max(3 * (high - low), 0.1 * middle)
        return sum(wall > limit for wall in self.walls)

    def row(self, serial_s: float | None, waits: Waits | None) -> Row:
        """Its part of the report."""
        if self.reason is not None or serial_s is None or waits is None:
            return Row(self.model.name, False, self.reason)
        wall = self.median("wall")
        shares, inferred = find_shares(
            self.model.kind, self.middle(), self.lanes, self.startup, waits, self.seen
        )
        return Row(
            model=self.model.name,
            ok=True,
            wall_s=wall,
            spread_s=max(self.walls) - min(self.walls),
            cpu_s=self.median("cpu"),
            startup_s=self.startup,
            speedup=serial_s / wall,
            shares=shares,
            inferred=inferred,
            runs=len(self.costs),
            outliers=self.outliers(),
        )


class Rounds:
    """Carries out the rounds, and keeps what they share.

    Args:
        entries: serial's first; reasons and figures are noted there.
        job: what to run.
        repeats: timed turns of each, at most.
        timeout: seconds that a turn may take; None: `LIMIT_S`, or many times what serial took.
        progress: is told of each turn.
    """

    def __init__(
        self,
        entries: list[Entry],
        job: Job,
        repeats: int,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._entries, self._job, self._repeats = entries, job, repeats
        self._timeout, self._progress = timeout, progress
        self._expected: Turn | None = None
        self._guard = Guard(job.items) if job.guarded else None
        self._kept: Guard | None = None  # notices when serial's first results change
        self._began = time.monotonic()
        self._done = 0
        self._rehearsing = False
        self._rehearsed_serial = 0.0

    def run(self) -> int:
        """All rounds; gives how many were timed for each model that is well."""
        if self._job.guarded:
            self._rehearsing = self._job.unshippable is None
        try:
            return self._rounds()
        except BaseException:
            for entry in self._entries:
                if entry.runner is not None:
                    entry.runner.close(at_once=True)
            raise
        finally:
            for entry in self._entries:
                if entry.runner is not None:
                    entry.runner.close()

    def _rounds(self) -> int:
        began, serial = self._began, self._entries[0]
        for number in range(self._repeats + 1):
            elapsed = time.monotonic() - began
            if number > 1 and elapsed * (number + 1) / number > BUDGET_S:
                return number - 1
            if number == 1 and elapsed * 2 > BUDGET_S and not self._job.guarded:
                # A crowded machine: a workload of ours is known to give the same each time, so
                # what was to warm up has to do.
                for entry in self._entries:
                    if entry.warm is not None and entry.reason is None:
                        entry.startups, entry.costs = [entry.warm.startup], [entry.warm.cost]
                return 1
            for entry in self._entries:
                self._turn_of(entry, number)
                if serial.reason is not None:
                    self._nothing_to_compare_with(serial.reason)
                    return number
        if self._repeats >= 3:
            self._settle(began)
        return self._repeats

    def _settle(self, began: float) -> None:
        """More turns for those whose times differ, while there is time."""
        until = min(began + BUDGET_S, time.monotonic() + MORE_S)
        for number in range(self._repeats + 1, self._repeats * MORE + 1):
            for entry in self._entries:
                if entry.reason is None and entry.unsettled():
                    if time.monotonic() + entry.median("wall") + entry.startup > until:
                        return
                    self._turn_of(entry, number)

    def _nothing_to_compare_with(self, reason: str) -> None:
        refused = reason.startswith("refused")
        said = (
            f"not compared: serial is {reason}" if refused else f"not run: under serial, {reason}"
        )
        for other in self._entries[1:]:
            # Nor is it a model's fault that its result is another one than serial's first.
            if other.reason is None or other.reason.startswith(_DIFFERS):
                other.reason = said

    def _limit(self, entry: Entry) -> float:
        if self._timeout is not None:
            return self._timeout
        serial = self._entries[0]
        if entry is serial:
            return LIMIT_S
        if not self._job.guarded:
            return min(LIMIT_S, max(self._left(), LEAST_S))
        return max(LIMIT_S, 20 * serial.median("wall")) if serial.costs else LIMIT_S

    def _is_late(self, entry: Entry) -> bool:
        """Whether there is no time left to begin with it."""
        limited = self._timeout is None and not self._job.guarded
        # Those that have next to nothing to start have a few seconds more.
        more = LEAST_S if entry.model.kind in ("thread", "native") else 0.0
        return limited and entry is not self._entries[0] and self._left() + more <= 0

    def _left(self) -> float:
        """Seconds of the budget."""
        return BUDGET_S - (time.monotonic() - self._began)

    def _turn_of(self, entry: Entry, number: int) -> None:
        if entry.reason is not None:
            return
        if self._progress is not None:
            well = sum(entry.reason is None for entry in self._entries)
            steps = max((self._repeats + 1) * well, self._done + 1)
            self._progress(entry.model.name, self._done, steps)
        self._done += 1
        limit = self._limit(entry)
        if number == 0 and self._is_late(entry):
            entry.reason = (
                f"not run: the models before it took more than {seconds(BUDGET_S)}, so busy is "
                "this machine (timeout= gives each its time)"
            )
            return
        difference: Difference | None = None
        try:
            rehearsed = entry.model.rehearsed and not entry.model.own_process
            if number == 0 and self._rehearsing and rehearsed:
                entry.reason = self._rehearse(entry, limit)
                if entry.reason is not None:
                    return
            if entry.model.own_process:
                turn, difference = self._turn_elsewhere(entry, limit, dispatch=number == 1)
            else:
                turn = self._turn_here(entry, limit, number)
        except TimedOut:
            entry.reason = self._late(limit)
            if entry.runner is not None:
                entry.runner.close(at_once=True)
            return
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a task may raise SystemExit, too
            entry.reason = str(error) if isinstance(error, (Crashed, Failed)) else say(error)
            return
        if turn.changed is not None:
            entry.reason = f"refused, it changes its input: {turn.changed}"
            return
        entry.seen = turn.seen or entry.seen
        if number == 0:
            entry.warm = Turn(turn.startup, turn.cost)
        else:
            entry.startups.append(turn.startup)
            entry.costs.append(turn.cost)
        entry.lanes, entry.printed = turn.lanes, turn.printed
        entry.dispatch = turn.dispatch or entry.dispatch
        self._check(entry, turn, difference, number)

    def _late(self, limit: float) -> str:
        return f"took longer than {seconds(limit)}, and was stopped (timeout= gives it longer)"

    def _turn_here(self, entry: Entry, limit: float, number: int) -> Turn:
        assert entry.model.open is not None
        with time_limit(limit):
            return take_turn(
                entry.model.open,
                self._job,
                entry.workers,
                guard=self._guard if number < 2 else None,
                dispatch=number == 1,
                sample=number == 0,
            )

    def _turn_elsewhere(
        self, entry: Entry, limit: float, dispatch: bool
    ) -> tuple[Turn, Difference | None]:
        assert entry.model.open is not None
        if entry.runner is None:
            entry.runner = Runner(entry.model.open, self._job, entry.workers)
        return entry.runner.take_turn(limit, dispatch=dispatch)

    def _rehearse(self, entry: Entry, limit: float) -> str | None:
        """Once in a process of its own, since what happens there does no harm here.

        Gives the reason why it must not run here, if there is one. What a task raises there is
        none: it may miss something that only this process has.
        """
        serial = entry is self._entries[0]
        if not serial and self._rehearsed_serial > REHEARSAL_S:
            return None
        assert entry.model.open is not None
        runner = Runner(entry.model.open, self._job, entry.workers)
        try:
            turn, _ = runner.take_turn(limit)
        except Failed:
            turn = None
        except Crashed as error:
            return f"{error} (seen in a process of its own)"
        except BaseException:
            runner.close(at_once=True)
            raise
        finally:
            runner.close()
        if serial and turn is not None:
            self._rehearsed_serial = turn.cost.wall
        if turn is not None and turn.changed is not None:
            return f"refused, it changes its input: {turn.changed}"
        return None

    def _check(self, entry: Entry, turn: Turn, difference: Difference | None, number: int) -> None:
        """Refuse a model whose results are not serial's."""
        serial = self._entries[0]
        if entry is serial and number == 0:
            self._expected = turn
            if self._job.guarded and not set(map(type, turn.results or ())) <= _FIXED:
                self._kept = Guard(turn.results)
        elif (
            # Results that are one object in all runs, such as a list that grows, seem equal.
            self._kept is not None
            and number < 2
            and not entry.model.own_process
            and (change := self._kept.change()) is not None
        ):
            serial.reason = f"refused, a later run changes the results of the first: {change}"
            return
        expected = self._expected
        if expected is None:
            return
        if difference is None and not (entry.model.own_process and number > 0):
            # What is combined of equal results is equal; a kernel gives only that.
            one, other = expected.results, turn.results
            if other is None:
                one, other = expected.value, turn.value
                if isinstance(other, memoryview):  # so a kernel hands out lists of lists
                    other = other.tolist()
            difference = first_difference(one, other, tolerance=self._job.tolerance)
        if difference is None:
            return
        # Whether the others do the same as serial cannot be told if serial's changes.
        if not difference.decided:
            entry.reason = f"refused, its results can't be compared: {difference}"
            return
        entry.reason = (
            f"refused, its result changes from run to run: {difference}"
            if entry is self._entries[0] or number > 0
            else f"{_DIFFERS}: {difference}"
        )
