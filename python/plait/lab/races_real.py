"""Two of the classic races as they really happen: no scheduler of ours, no stand-ins.

`rust_twin` loses updates in Rust, where threads do run at the same time; `deadlock` has two
threads that wait for each other, and draws the cycle that plait finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import plait
from plait import _core
from plait.errors import DeadlockError

from .race_show import cycle_svg, cycle_text, label

__all__ = ["DeadlockPicture", "Twin", "deadlock", "rust_twin"]

_ATTEMPTS = 20


@dataclass(frozen=True)
class Twin:
    """What threads in Rust left that each added one to the same number.

    Attributes:
        threads: how many there were.
        rounds: how often each added one.
        attempts: how often this was tried, until something was lost.
        left: what the number was at the end, when each addition was a load and a store.
        left_in_one_step: the same, when each was one operation.
    """

    threads: int
    rounds: int
    attempts: int
    left: int
    left_in_one_step: int

    @property
    def expected(self) -> int:
        """What should be left."""
        return self.threads * self.rounds

    @property
    def lost(self) -> int:
        """How many additions are missing."""
        return self.expected - self.left

    def __str__(self) -> str:
        head = f"{self.threads} threads in Rust, each adding one {self.rounds:,} times:"
        if self.lost:
            share = self.lost / self.expected
            seen = f"{self.lost:,} of {self.expected:,} updates were lost ({share:.0%})"
        else:
            seen = (
                f"none of {self.expected:,} updates was lost in {self.attempts} attempts, which "
                "proves nothing"
            )
        return (
            f"{head} by a load and a store, {seen}; by one fetch_add, "
            f"{self.expected - self.left_in_one_step:,} were."
        )


def rust_twin(threads: int = 2, rounds: int = 1_000_000) -> Twin:
    """The lost update in Rust: each thread loads an atomic number and stores one more.

    Every access is atomic, so nothing is undefined; what is lost is lost between load and store.
    Unlike threads in Python under the GIL, these run at the same time, and without the GIL. How
    much is lost differs each time: that is why `race` looks for it instead of trying its luck.

    Args:
        threads: how many, 1 to 64.
        rounds: how often each adds one, 1 to 100,000,000.

    Returns:
        A `Twin`; if nothing was lost, of the last of 20 attempts.

    Raises:
        ValueError: one of them is out of range.
        RuntimeError: the system starts no more threads.

    >>> from plait.lab import races
    >>> twin = races.rust_twin()
    >>> twin.expected, twin.left_in_one_step, 0 < twin.left <= twin.expected
    (2000000, 2000000, True)
    """
    for name, value, most in (("threads", threads, 64), ("rounds", rounds, 100_000_000)):
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name} must be a whole number from 1 to {most:,}, got {value!r}")
    left, attempts = threads * rounds, 0
    # On a machine whose other processors are taken, the threads may run one after the other.
    while left == threads * rounds and attempts < (_ATTEMPTS if threads > 1 else 1):
        left = _core.add_together(threads, rounds, False)
        attempts += 1
    return Twin(threads, rounds, attempts, left, _core.add_together(threads, rounds, True))


class DeadlockPicture:
    """A `DeadlockError`'s cycle, as text and as a picture (in a notebook, by itself).

    Attributes:
        error: the error.

    Args:
        error: what plait raised.
        names: names for its locks, by `id`.

    >>> import plait
    >>> from plait.lab import races
    >>> config = plait.RWLock()
    >>> try:
    ...     with config.read():
    ...         config.acquire_write()
    ... except plait.errors.DeadlockError as error:
    ...     print(str(races.DeadlockPicture(error, {id(config): "config"})).splitlines()[0])
    MainThread --waits for config, held by--> MainThread
    """

    def __init__(self, error: DeadlockError, names: Mapping[int, str] | None = None) -> None:
        self.error = error
        self._names = dict(names or {})

    def svg(self) -> str:
        """The picture: who waits for what, held by whom."""
        return cycle_svg(self.error, self._names)

    def to_dict(self) -> dict[str, Any]:
        """The cycle, for JSON."""
        return {
            "parties": [
                {
                    "name": party.name,
                    "holds": [label(one, self._names) for one in party.holds],
                    "waits_for": label(party.waits_for, self._names),
                    "stack": [f"{f.filename}:{f.lineno}: {f.line}" for f in party.stack],
                }
                for party in self.error.cycle
            ]
        }

    def __str__(self) -> str:
        return cycle_text(self.error, self._names)

    def _repr_svg_(self) -> str:
        return self.svg()


def deadlock(parties: int = 2) -> DeadlockPicture:
    """Have threads wait for each other in a circle, and show the `DeadlockError` that ends it.

    Args:
        parties: how many threads, 2 to 20.

    Returns:
        A `DeadlockPicture`.

    Raises:
        ValueError: ``parties`` is out of range.
        RuntimeError: `plait.sync.find_deadlocks` is off: they would wait for ever.

    >>> from plait.lab import races
    >>> picture = races.deadlock()
    >>> sorted(party.name for party in picture.error.cycle)
    ['thread 1', 'thread 2']
    >>> picture.svg().startswith("<svg")
    True
    """
    if type(parties) is not int or not 2 <= parties <= 20:
        raise ValueError(f"parties must be a whole number from 2 to 20, got {parties!r}")
    was_on = plait.sync.find_deadlocks(True)
    if not was_on:
        plait.sync.find_deadlocks(False)
        raise RuntimeError("plait.sync.find_deadlocks(True) first: this would wait for ever")
    locks = [plait.Lock() for _ in range(parties)]
    all_have_one = plait.Barrier(parties)

    def take_two(index: int) -> DeadlockError | None:
        try:
            with locks[index]:
                all_have_one.wait()
                with locks[(index + 1) % parties]:
                    return None
        except DeadlockError as error:
            return error

    threads = [
        plait.Thread(target=take_two, args=(index,), name=f"thread {index + 1}")
        for index in range(parties)
    ]
    for thread in threads:
        thread.start()
    errors = [thread.result() for thread in threads]
    names = {id(lock): f"lock {index + 1}" for index, lock in enumerate(locks)}
    return DeadlockPicture(next(error for error in errors if error is not None), names)
