"""Classic races, ready for `race`: each with its bug and with several ways to mend it.

>>> from plait.lab import races
>>> for name, exhibit in races.exhibits().items():
...     print(f"{name}: {exhibit.title}; mended by {', '.join(exhibit.fixes)}")
lost-update: two threads add one, one addition is lost; mended by lock, atomic, own
check-then-act: what was checked is no longer so when it is acted upon; mended by lock, atomic
double-checked: an object is seen before it is filled; mended by publish-last, always-lock
bounded-queue: one condition for two sides wakes the wrong one; mended by notify-all, two-conditions
philosophers: each has one fork, and waits for the other; mended by order, left-handed, waiter
readers-writers: a reader sees half of what a writer does; mended by rwlock, lock, one-store
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import plait
from plait.atomic import AtomicInt

from .race import RaceReport, race
from .races_real import DeadlockPicture, Twin, deadlock, rust_twin

__all__ = ["DeadlockPicture", "Exhibit", "Program", "Twin", "deadlock", "exhibits", "rust_twin"]

Body = Callable[[Any], object]


@dataclass(frozen=True)
class Program:
    """What `race` takes.

    Attributes:
        setup: makes the state.
        threads: the threads' functions.
        invariant: what must hold at the end.
        note: what is wrong with it, or why it is right.
    """

    setup: Callable[[], Any]
    threads: Sequence[Body]
    invariant: Callable[[Any], bool]
    note: str = ""

    def race(self, budget: float = 10.0) -> RaceReport:
        """Look for an interleaving that breaks it; ``budget`` in seconds."""
        return race(self.setup, self.threads, self.invariant, budget=budget)


@dataclass(frozen=True)
class Exhibit:
    """A classic race.

    Attributes:
        name: what `exhibits` and ``plait race`` call it.
        title: what goes wrong, in a line.
        bug: the program that goes wrong.
        fixes: programs that don't, by name.
    """

    name: str
    title: str
    bug: Program
    fixes: dict[str, Program] = field(default_factory=dict)

    def race(self, fix: str | None = None, budget: float = 10.0) -> RaceReport:
        """Look for an interleaving that goes wrong.

        Args:
            fix: which of `fixes`; None: the bug.
            budget: seconds after which to give up.

        Raises:
            ValueError: there is no such fix.

        >>> from plait.lab import races
        >>> lost = races.exhibits()["lost-update"]
        >>> lost.race().found, lost.race("lock").proved
        (True, True)
        """
        if fix is not None and fix not in self.fixes:
            raise ValueError(f"{self.name} has no fix {fix!r}; there are {', '.join(self.fixes)}")
        return (self.bug if fix is None else self.fixes[fix]).race(budget)


# ---- the lost update --------------------------------------------------------------------------


class Counter:
    def __init__(self) -> None:
        self.value = 0
        self.lock = threading.Lock()


def add_one(counter: Counter) -> None:
    seen = counter.value
    counter.value = seen + 1


def add_one_locked(counter: Counter) -> None:
    with counter.lock:
        seen = counter.value
        counter.value = seen + 1


def add_one_atomically(state: SimpleNamespace) -> None:
    state.value.fetch_add(1)


def add_to_own(index: int, state: list[int]) -> None:
    state[index] = state[index] + 1


def _lost_update() -> Exhibit:
    def is_two(counter: Counter) -> bool:
        return counter.value == 2

    return Exhibit(
        "lost-update",
        "two threads add one, one addition is lost",
        Program(Counter, [add_one] * 2, is_two, "Read, add, write: another may come in between."),
        {
            "lock": Program(Counter, [add_one_locked] * 2, is_two, "One at a time."),
            "atomic": Program(
                lambda: SimpleNamespace(value=AtomicInt()),
                [add_one_atomically] * 2,
                lambda state: bool(state.value.load() == 2),
                "Reading, adding and writing are one step.",
            ),
            "own": Program(
                lambda: [0, 0],
                [partial(add_to_own, 0), partial(add_to_own, 1)],
                lambda state: sum(state) == 2,
                "Each thread has a place of its own; they are added up at the end.",
            ),
        },
    )


# ---- check, then act --------------------------------------------------------------------------


class Account:
    def __init__(self) -> None:
        self.balance = 100
        self.lock = plait.Lock()


def withdraw(account: Account) -> None:
    with account.lock:
        enough = account.balance >= 80
    if enough:
        with account.lock:
            account.balance -= 80


def withdraw_at_once(account: Account) -> None:
    with account.lock:
        if account.balance >= 80:
            account.balance -= 80


def withdraw_atomically(state: SimpleNamespace) -> None:
    balance = state.balance.load()
    while balance >= 80:
        if state.balance.compare_exchange(balance, balance - 80):
            return
        balance = state.balance.load()


def _check_then_act() -> Exhibit:
    def is_covered(account: Account) -> bool:
        return account.balance >= 0

    return Exhibit(
        "check-then-act",
        "what was checked is no longer so when it is acted upon",
        Program(
            Account,
            [withdraw] * 2,
            is_covered,
            "Both steps hold the lock, but it is let go of between them.",
        ),
        {
            "lock": Program(Account, [withdraw_at_once] * 2, is_covered, "One lock for both."),
            "atomic": Program(
                lambda: SimpleNamespace(balance=AtomicInt(100)),
                [withdraw_atomically] * 2,
                lambda state: bool(state.balance.load() >= 0),
                "Acts only if what was checked is still so.",
            ),
        },
    )


# ---- double-checked initialization --------------------------------------------------------------


class Config:
    def __init__(self) -> None:
        self.options: dict[str, int] | None = None


class Lazy:
    def __init__(self) -> None:
        self.config: Config | None = None
        self.lock = threading.Lock()
        self.seen: list[bool] = []


def use_early(lazy: Lazy) -> None:
    if lazy.config is None:
        with lazy.lock:
            if lazy.config is None:
                lazy.config = Config()
                lazy.config.options = {"size": 3}
    lazy.seen.append(lazy.config.options is not None)


def use_filled(lazy: Lazy) -> None:
    if lazy.config is None:
        with lazy.lock:
            if lazy.config is None:
                config = Config()
                config.options = {"size": 3}
                lazy.config = config
    lazy.seen.append(lazy.config.options is not None)


def use_locked(lazy: Lazy) -> None:
    with lazy.lock:
        if lazy.config is None:
            lazy.config = Config()
            lazy.config.options = {"size": 3}
        config = lazy.config
    lazy.seen.append(config.options is not None)


def _double_checked() -> Exhibit:
    def all_filled(lazy: Lazy) -> bool:
        return lazy.seen == [True, True]

    return Exhibit(
        "double-checked",
        "an object is seen before it is filled",
        Program(Lazy, [use_early] * 2, all_filled, "The first look takes no lock: it sees all."),
        {
            "publish-last": Program(
                Lazy, [use_filled] * 2, all_filled, "It is filled before others can see it."
            ),
            "always-lock": Program(Lazy, [use_locked] * 2, all_filled, "Nobody looks without it."),
        },
    )


# ---- a bounded queue ----------------------------------------------------------------------------


class Slot:
    """A queue for one item."""

    def __init__(self) -> None:
        self.items: list[int] = []
        self.taken = 0
        self.lock = plait.Lock()
        self.changed = plait.Condition(self.lock)
        self.has_item = plait.Condition(self.lock)
        self.has_room = plait.Condition(self.lock)


def put(slot: Slot) -> None:
    with slot.changed:
        while slot.items:
            slot.changed.wait()
        slot.items.append(1)
        slot.changed.notify()


def get(slot: Slot) -> None:
    with slot.changed:
        while not slot.items:
            slot.changed.wait()
        slot.taken += slot.items.pop()
        slot.changed.notify()


def put_and_tell_all(slot: Slot) -> None:
    with slot.changed:
        while slot.items:
            slot.changed.wait()
        slot.items.append(1)
        slot.changed.notify_all()


def get_and_tell_all(slot: Slot) -> None:
    with slot.changed:
        while not slot.items:
            slot.changed.wait()
        slot.taken += slot.items.pop()
        slot.changed.notify_all()


def put_by_two(slot: Slot) -> None:
    with slot.lock:
        while slot.items:
            slot.has_room.wait()
        slot.items.append(1)
        slot.has_item.notify()


def get_by_two(slot: Slot) -> None:
    with slot.lock:
        while not slot.items:
            slot.has_item.wait()
        slot.taken += slot.items.pop()
        slot.has_room.notify()


def _bounded_queue() -> Exhibit:
    def both_taken(slot: Slot) -> bool:
        return slot.taken == 2 and not slot.items

    return Exhibit(
        "bounded-queue",
        "one condition for two sides wakes the wrong one",
        Program(
            Slot,
            [get, get, put, put],
            both_taken,
            "Who has taken the item wakes one who waits: another taker, it may be.",
        ),
        {
            "notify-all": Program(
                Slot,
                [get_and_tell_all, get_and_tell_all, put_and_tell_all, put_and_tell_all],
                both_taken,
                "All look again.",
            ),
            "two-conditions": Program(
                Slot,
                [get_by_two, get_by_two, put_by_two, put_by_two],
                both_taken,
                "Each side waits at a condition of its own, over one lock.",
            ),
        },
    )


# ---- the dining philosophers --------------------------------------------------------------------


class Table:
    def __init__(self) -> None:
        self.forks = [plait.Lock() for _ in range(3)]
        self.waiter = plait.Semaphore(2)
        self.meals = [0, 0, 0]


def dine(seat: int, table: Table) -> None:
    with table.forks[seat]:
        with table.forks[(seat + 1) % 3]:
            table.meals[seat] = 1


def dine_in_order(seat: int, table: Table) -> None:
    first, second = sorted([seat, (seat + 1) % 3])
    with table.forks[first]:
        with table.forks[second]:
            table.meals[seat] = 1


def dine_left_handed(seat: int, table: Table) -> None:
    hands = [seat, (seat + 1) % 3]
    if seat == 0:
        hands.reverse()
    with table.forks[hands[0]]:
        with table.forks[hands[1]]:
            table.meals[seat] = 1


def dine_with_waiter(seat: int, table: Table) -> None:
    with table.waiter:
        with table.forks[seat]:
            with table.forks[(seat + 1) % 3]:
                table.meals[seat] = 1


def _philosophers() -> Exhibit:
    def program(dine: Callable[[int, Table], None], note: str) -> Program:
        seats = [partial(dine, seat) for seat in range(3)]
        return Program(Table, seats, lambda table: table.meals == [1, 1, 1], note)

    return Exhibit(
        "philosophers",
        "each has one fork, and waits for the other",
        program(dine, "All take the left one first."),
        {
            "order": program(dine_in_order, "All take the fork with the lower number first."),
            "left-handed": program(dine_left_handed, "One takes the right one first."),
            "waiter": program(dine_with_waiter, "Only two may sit down at a time."),
        },
    )


# ---- readers and writers ------------------------------------------------------------------------


class Scores:
    def __init__(self) -> None:
        self.home = self.guests = 0
        self.both = (0, 0)
        self.lock = threading.Lock()
        self.rwlock = plait.RWLock()
        self.seen: list[tuple[int, int]] = []


def write(scores: Scores) -> None:
    with scores.lock:
        scores.home += 1
        scores.guests += 1


def read(scores: Scores) -> None:
    home, guests = scores.home, scores.guests
    scores.seen.append((home, guests))


def read_locked(scores: Scores) -> None:
    with scores.lock:
        home, guests = scores.home, scores.guests
    scores.seen.append((home, guests))


def write_rw(scores: Scores) -> None:
    with scores.rwlock.write():
        scores.home += 1
        scores.guests += 1


def read_rw(scores: Scores) -> None:
    with scores.rwlock.read():
        home, guests = scores.home, scores.guests
    scores.seen.append((home, guests))


def write_once(scores: Scores) -> None:
    with scores.lock:
        home, guests = scores.both
        scores.both = (home + 1, guests + 1)


def read_once(scores: Scores) -> None:
    scores.seen.append(scores.both)


def _readers_writers() -> Exhibit:
    def all_equal(scores: Scores) -> bool:
        return all(home == guests for home, guests in scores.seen)

    return Exhibit(
        "readers-writers",
        "a reader sees half of what a writer does",
        Program(Scores, [write, read], all_equal, "Readers take no lock."),
        {
            "rwlock": Program(
                Scores,
                [write_rw, read_rw],
                all_equal,
                "Readers together, or a writer alone.",
            ),
            "lock": Program(Scores, [write, read_locked], all_equal, "One at a time."),
            "one-store": Program(
                Scores,
                [write_once, read_once],
                all_equal,
                "Both numbers are one tuple, which is put in place at once.",
            ),
        },
    )


@cache
def exhibits() -> dict[str, Exhibit]:
    """The classic races, by name."""
    makers = (
        *(_lost_update, _check_then_act, _double_checked),
        *(_bounded_queue, _philosophers, _readers_writers),
    )
    return {exhibit.name: exhibit for exhibit in (make() for make in makers)}
