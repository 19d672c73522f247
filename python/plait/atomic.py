"""Values that threads change without a lock: numbers, references, and counts by key.

``counter += 1`` reads, adds and writes: another thread may come between any two of these, and
its change is lost. An operation of these classes is one step: no thread sees it half done, none
is lost.

Memory order: the operations of `AtomicInt` are sequentially consistent. All threads see all of
them in one and the same order, and who sees the effect of one sees all that its thread wrote
before. So is `AtomicRef` for each object by itself. Two operations in a row are two steps: use
`compare_exchange`, or a lock, for what must happen together.

They belong to one process, and don't travel to another.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar

from . import _core

__all__ = ["AtomicCounter", "AtomicInt", "AtomicRef"]

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class AtomicInt(_core.AtomicInt):
    """A whole number of 64 bits that threads change without a lock.

    Unlike an ``int`` it is changed in place, and ``+=`` on it is one step. A result that does
    not fit raises OverflowError and changes nothing.

    Args:
        value: what it is at first.

    >>> from plait.atomic import AtomicInt
    >>> hits = AtomicInt()
    >>> hits.add(5), hits.fetch_add(), hits.load()
    (5, 5, 6)
    >>> hits += 2
    >>> hits.compare_exchange(8, 0), hits
    (True, AtomicInt(0))
    """

    __slots__ = ()

    def __iadd__(self, n: int) -> AtomicInt:
        self.fetch_add(n)
        return self

    def __isub__(self, n: int) -> AtomicInt:
        self.sub(n)
        return self

    def update(self, change: Callable[[int], int]) -> int:
        """Make it ``change(value)``, as one step; returns the new value.

        Args:
            change: is called without a lock, and again if another thread was faster: it should do
                nothing but compute.

        >>> from plait.atomic import AtomicInt
        >>> AtomicInt(5).update(lambda value: value * 3)
        15
        """
        while True:
            value = self.load()
            new = change(value)
            if self.compare_exchange(value, new):
                return new

    def __reduce__(self) -> NoReturn:
        _refuse_to_travel(self)


class AtomicRef(_core.AtomicRef, Generic[T]):
    """A reference to an object that threads change without a lock of theirs.

    Args:
        value: what it refers to at first.

    >>> from plait.atomic import AtomicRef
    >>> newest = AtomicRef((1, "one"))
    >>> newest.exchange((2, "two"))
    (1, 'one')
    >>> newest.update(lambda old: (old[0] + 1, "three"))
    (3, 'three')
    """

    __slots__ = ()

    def update(self, change: Callable[[T], T]) -> T:
        """Have it refer to ``change(object)``, as one step; returns that.

        Args:
            change: is called without a lock, and again if another thread was faster: it should
                make a new object, and leave the old one as it is.
        """
        while True:
            value = self.load()
            new = change(value)
            if self.compare_exchange(value, new):
                return new

    def __reduce__(self) -> NoReturn:
        _refuse_to_travel(self)


class AtomicCounter(Generic[K]):
    """Counts by key that threads change without a lock; `collections.Counter`, but ``add``.

    Of a ``Counter``, ``counts[key] += 1`` is three steps. Here `add` is one. A key that was
    counted keeps its place, even at zero.

    Args:
        items: what is counted at first.

    >>> from plait.atomic import AtomicCounter
    >>> words = AtomicCounter("to be or not to be".split())
    >>> words.add("or", 4)
    5
    >>> words["be"], words["question"], words.total()
    (2, 0, 9)
    >>> words.most_common(1)
    [('or', 5)]
    """

    __slots__ = ("_cells",)

    def __init__(self, items: Iterable[K] = ()) -> None:
        # Looking a key up and setting a default are one step each of a dict, on any build.
        # Cells are never removed: a count that another thread adds meanwhile would be lost.
        self._cells: dict[K, _core.AtomicInt] = {}
        self.update(items)

    def add(self, key: K, n: int = 1) -> int:
        """Add to a count, as one step; returns the new count."""
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells.setdefault(key, _core.AtomicInt())
        return cell.add(n)

    def update(self, items: Iterable[K]) -> None:
        """Count each item; one step each, not all together.

        Args:
            items: keys, or a mapping of keys to what is to be added.
        """
        if isinstance(items, Mapping):
            for key, n in items.items():
                self.add(key, n)
        else:
            for key in items:
                self.add(key)

    def take(self) -> collections.Counter[K]:
        """Set all counts to zero; returns what they were. What is added meanwhile is either in
        what is returned or still there: none is lost, none counted twice."""
        taken = {key: cell.exchange(0) for key, cell in list(self._cells.items())}
        return collections.Counter({key: count for key, count in taken.items() if count})

    def snapshot(self) -> collections.Counter[K]:
        """The counts that are not zero. Each is as it was at some moment of the call, not all at
        the same."""
        counts = {key: cell.load() for key, cell in list(self._cells.items())}
        return collections.Counter({key: count for key, count in counts.items() if count})

    def total(self) -> int:
        """The sum of all counts."""
        return sum(cell.load() for cell in list(self._cells.values()))

    def most_common(self, n: int | None = None) -> list[tuple[K, int]]:
        """The ``n`` keys with the largest counts, or all; with the counts, largest first."""
        return self.snapshot().most_common(n)

    def __getitem__(self, key: K) -> int:
        cell = self._cells.get(key)
        return 0 if cell is None else cell.load()

    def __contains__(self, key: object) -> bool:
        return key in self._cells and self[key] != 0  # type: ignore[index]

    def __iter__(self) -> Iterator[K]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.most_common())})"

    def __reduce__(self) -> NoReturn:
        _refuse_to_travel(self)


def _refuse_to_travel(shared: Any) -> NoReturn:
    raise TypeError(
        f"cannot pickle '{type(shared).__name__}' object: it belongs to this process; send its "
        "value instead"
    )
