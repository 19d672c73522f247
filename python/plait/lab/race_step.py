"""A run of `race` that goes on when it is told to: the learner is the scheduler."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .race_explore import Finding, Game, judge
from .race_show import is_shown, names_of, steps_html, table, words
from .race_watch import watch

if TYPE_CHECKING:
    from .race_engine import Operation, Player, Run

__all__ = ["Stepper", "ThreadView"]


_ENDS = {
    "ok": "All threads have ended, and the invariant holds.",
    "invariant": "All threads have ended, and the invariant does not hold.",
    "deadlock": "No thread can go on: a deadlock.",
    "exception": "A thread has raised an exception.",
}


@dataclass(frozen=True)
class ThreadView:
    """A thread of a run that stands still.

    Attributes:
        index: its number, from 0.
        name: "thread 1" and so on.
        status: "ready", "waiting" or "ended".
        next: what it does next, or what it waits for.
    """

    index: int
    name: str
    status: str
    next: str


class Stepper:
    """A run of `RaceReport.step`, forwards and back.

    In a notebook it shows buttons if ipywidgets is there, and else the steps so far.

    Attributes:
        state: what `setup` made, as the threads have it just now.
        threads: the threads, as `ThreadView`.
        steps: what was done so far.
        finished: whether no thread can go on.
        outcome: "invariant", "deadlock" or "exception" if it went wrong; "ok" if it went well;
            None: it isn't finished.
    """

    def __init__(self, game: Game, way: Sequence[int]) -> None:
        self._game = game
        self._way = way
        self._choices: list[int] = []
        self._run: Run | None = None
        self._finding: Finding | None = None
        self._is_closed = False
        self._finalizer: Any = None
        watch.open()
        self._unwatch = weakref.finalize(self, watch.close)
        watch.prepare(game.points.codes)
        self._restart([])

    def __enter__(self) -> Stepper:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def state(self) -> Any:
        """What the threads share."""
        return self._live().state

    @property
    def steps(self) -> list[Operation]:
        """What was done so far."""
        points = self._game.points
        return [step for step in self._live().steps if is_shown(step, points)]

    @property
    def threads(self) -> list[ThreadView]:
        """The threads, and what each does next."""
        return [self._view(one) for one in self._live().players]

    def _view(self, one: Player) -> ThreadView:
        if one.is_done:
            return ThreadView(one.index, one.name, "ended", "")
        pending = one.pending
        can = one in self._live().can_go_on()
        names = names_of(self.state)
        what = (
            "" if pending is None else f"{pending.line}: {pending.source} ({words(pending, names)})"
        )
        return ThreadView(one.index, one.name, "ready" if can else "waiting", what)

    @property
    def finished(self) -> bool:
        """Whether no thread can go on."""
        return not self._live().can_go_on()

    @property
    def outcome(self) -> str | None:
        """How it ended."""
        if not self.finished:
            return None
        run = self._live()
        run.is_deadlock = any(not one.is_done for one in run.players)
        if self._finding is None:
            with self._game.patches(False):
                self._finding = judge(self._game, run)
        return "ok" if self._finding is None else self._finding.kind

    def forward(self, thread: int | None = None) -> None:
        """Have a thread do its next step.

        Args:
            thread: which, by index. None: the way that was found; where that has ended, or was
                left, the first thread that can go on.

        Raises:
            ValueError: that thread waits, or has ended, or there is none of this index.
        """
        ready = {one.index: one for one in self._live().can_go_on()}
        if not ready:
            raise ValueError("no thread can go on: " + self._standing())
        if thread is None:
            thread = self._by_itself(ready)
        if thread not in ready:
            raise ValueError(f"thread {thread!r} cannot go on now: {self._standing()}")
        self._go_on(ready[thread])
        self._choices.append(thread)
        if self._live().unknown_code is not None:
            self._live().is_blind()
            self._restart(self._choices)

    def back(self) -> None:
        """Undo the last step: the run is repeated up to it, with a new state.

        Raises:
            ValueError: there is none.
        """
        if not self._choices:
            raise ValueError("nothing was done yet")
        self._restart(self._choices[:-1])

    def close(self) -> None:
        """End the run's threads; also done when the last reference to it goes."""
        if self._run is not None:
            self._finalizer()
            self._run = None
            self._unwatch()
        self._is_closed = True

    def _standing(self) -> str:
        return ", ".join(f"{view.name} {view.status} {view.next}".strip() for view in self.threads)

    def _live(self) -> Run:
        if self._run is None:
            raise ValueError("the stepper is closed")
        return self._run

    def _by_itself(self, ready: dict[int, Player]) -> int:
        done = len(self._choices)
        if self._choices == list(self._way[:done]) and done < len(self._way):
            wanted = self._way[done]
            if wanted in ready:
                return wanted
        last = self._choices[-1] if self._choices else -1
        return last if last in ready else min(ready)

    def _restart(self, choices: list[int]) -> None:
        if self._is_closed:
            raise ValueError("the stepper is closed")
        while not self._has_restarted(choices):
            pass
        self._choices = list(choices)

    def _has_restarted(self, choices: list[int]) -> bool:
        if self._run is not None:
            self._finalizer()
        self._finding = None
        with self._game.patches(is_quiet=False) as patches:
            run = self._run = self._game.new_run(patches, lambda run, one, ready: None)
            self._finalizer = weakref.finalize(self, run.abandon)
            self._check(run.begin(self._game.stall, time.monotonic() + 60))
            self._skip()
        for index in choices:
            if run.unknown_code is not None:
                break
            self._go_on(run.players[index])
        return not run.is_blind()

    def _go_on(self, one: Player) -> None:
        self._finding = None
        with self._game.patches(is_quiet=False):
            run = self._live()
            self._check(run.go_on(one, self._game.stall, time.monotonic() + 60))
            self._skip()

    def _skip(self) -> None:
        """Let threads do what nobody else sees."""
        run = self._live()
        for one in run.players:
            while (
                not one.is_done
                and one.pending is not None
                and not is_shown(one.pending, self._game.points)
            ):
                self._check(run.go_on(one, self._game.stall, time.monotonic() + 60))

    def _check(self, went_on: bool) -> None:
        if not went_on:
            place = self._live().stuck_at
            self.close()
            raise RuntimeError(f"a thread does not come back from {place}; race() cannot see why")

    def __str__(self) -> str:
        run = self._live()
        end = "" if self.outcome is None else f"\n{_ENDS[self.outcome]}"
        return (
            f"{table(self.steps, len(run.players), names_of(run.state))}\n\n{self._standing()}{end}"
        )

    def _repr_html_(self) -> str:
        from html import escape

        run = self._live()
        lines = "".join(
            f"<li>{view.name}, {view.status}{': ' if view.next else ''}{escape(view.next)}</li>"
            for view in self.threads
        )
        end = "" if self.outcome is None else f"<p>{_ENDS[self.outcome]}</p>"
        steps = steps_html(self.steps, len(run.players), names_of(run.state), False)
        return f"{steps}<ul>{lines}</ul>{end}"

    def _ipython_display_(self) -> None:
        from IPython import display

        shown: Any = display
        with contextlib.suppress(ImportError):
            shown.display(self.widget())
            return
        shown.display(shown.HTML(self._repr_html_()))

    def widget(self) -> Any:
        """Buttons for a notebook: one a thread, one that goes back.

        Raises:
            ImportError: ipywidgets is missing.
        """
        import ipywidgets

        page = ipywidgets.HTML()
        count = len(self._live().players)
        buttons = [ipywidgets.Button(description=f"thread {index + 1}") for index in range(count)]
        back = ipywidgets.Button(description="back", icon="undo")

        def show() -> None:
            page.value = self._repr_html_()
            for button, view in zip(buttons, self.threads, strict=True):
                button.disabled = view.status != "ready"
            back.disabled = not self._choices

        def on_click(index: int | None) -> Any:
            def click(_: Any) -> None:
                if index is None:
                    self.back()
                else:
                    self.forward(index)
                show()

            return click

        for index, button in enumerate(buttons):
            button.on_click(on_click(index))
        back.on_click(on_click(None))
        show()
        return ipywidgets.VBox([ipywidgets.HBox([*buttons, back]), page])
