"""plait.atomic: no update is lost, whatever threads do."""

from __future__ import annotations

import collections
import gc
import pickle
import threading
import weakref
from collections.abc import Callable

import pytest
from plait.atomic import AtomicCounter, AtomicInt, AtomicRef

THREADS, TIMES = 8, 500


def hammer(work: Callable[[int], object]) -> None:
    """Has threads call ``work(number)`` at the same time."""
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        for _ in range(TIMES):
            work(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_numbers() -> None:
    number = AtomicInt(5)
    assert (number.load(), int(number), [10, 11][AtomicInt(1)]) == (5, 5, 11)
    assert (number.add(2), number.sub(), number.fetch_add(4), number.load()) == (7, 6, 6, 10)
    assert (number.exchange(3), number.compare_exchange(2, 9), number.load()) == (10, False, 3)
    assert number.compare_exchange(3, 9)
    assert (number.fetch_max(20), number.fetch_min(-1), number.load()) == (9, 20, -1)
    number += 3
    number -= 1
    assert isinstance(number, AtomicInt)
    assert repr(number) == "AtomicInt(1)"
    number.store(7)
    assert number.update(lambda value: value * 2) == 14


def test_what_does_not_fit_changes_nothing() -> None:
    number = AtomicInt(2**63 - 1)
    with pytest.raises(OverflowError, match=r"9223372036854775807 \+ 1 does not fit"):
        number.add()
    with pytest.raises(OverflowError):
        number.store(2**63)
    assert number.load() == 2**63 - 1
    least = AtomicInt(-(2**63))
    with pytest.raises(OverflowError):
        least -= 1
    assert least.load() == -(2**63)


def test_no_addition_is_lost() -> None:
    number, changed = AtomicInt(), AtomicInt()

    def work(_: int) -> None:
        number.add(3)
        number.sub(2)
        changed.update(lambda value: value + 1)

    hammer(work)
    assert number.load() == changed.load() == THREADS * TIMES


def test_references() -> None:
    one, two = [1], [1]
    reference = AtomicRef(one)
    assert reference.load() is one
    assert not reference.compare_exchange(two, one)  # equal, and another object
    assert reference.compare_exchange(one, two)
    assert reference.exchange(one) is two
    reference.store(two)
    assert repr(reference) == "AtomicRef([1])"
    assert AtomicRef().load() is None


def test_no_update_of_a_reference_is_lost() -> None:
    reference: AtomicRef[tuple[int, ...]] = AtomicRef(())
    hammer(lambda number: reference.update(lambda old: (*old, number)) and None)
    assert collections.Counter(reference.load()) == dict.fromkeys(range(THREADS), TIMES)


def test_cycles_through_references_are_collected() -> None:
    class Node:
        pass

    node = Node()
    reference = AtomicRef(node)
    node.reference = reference  # type: ignore[attr-defined]
    gone = weakref.ref(node)
    del node, reference
    gc.collect()
    assert gone() is None


def test_a_finalizer_may_use_the_reference_that_drops_it() -> None:
    class Last:
        def __del__(self) -> None:
            seen.append(reference.load())

    seen: list[object] = []
    reference: AtomicRef[object] = AtomicRef(Last())
    reference.store("next")
    gc.collect()
    assert seen == ["next"]


def test_counts() -> None:
    counts = AtomicCounter("abracadabra")
    assert counts["a"] == 5
    assert counts["z"] == 0
    assert "z" not in counts
    assert counts.add("z", 7) == 7
    counts.update({"z": -7, "b": 1})
    assert "z" not in counts
    assert set(counts) == set("abrcd")
    assert len(counts) == 5
    assert counts.total() == 12
    assert counts.most_common(2) == [("a", 5), ("b", 3)]
    assert counts.snapshot() == collections.Counter("abracadabrab")
    assert counts.take() == collections.Counter("abracadabrab")
    assert counts.total() == 0
    assert repr(AtomicCounter("x")) == "AtomicCounter({'x': 1})"


def test_no_count_is_lost_while_others_take_them() -> None:
    counts: AtomicCounter[int] = AtomicCounter()
    taken: list[collections.Counter[int]] = []

    def work(number: int) -> None:
        counts.add(number % 3)
        if number == 0:
            taken.append(counts.take())

    hammer(work)
    taken.append(counts.take())
    assert sum((one.total() for one in taken), 0) == THREADS * TIMES


@pytest.mark.parametrize("shared", [AtomicInt(), AtomicRef(), AtomicCounter()])
def test_they_belong_to_one_process(shared: object) -> None:
    with pytest.raises(TypeError, match="belongs to this process"):
        pickle.dumps(shared)
