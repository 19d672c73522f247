"""`plait.lab.race`: what it sees of a program, and that it proves nothing where it cannot see."""

from __future__ import annotations

import collections
import copy
import ctypes
import functools
import operator
import threading
import time
from types import SimpleNamespace

import pytest
from plait.lab import race

LONG = 60.0  # seconds: nothing here needs as much


def make(**parts):
    """A setup whose state has n = 0 and these, made anew for each run."""
    return lambda: SimpleNamespace(n=0, **{name: part() for name, part in parts.items()})


def always(_):
    return True


def is_two(state):
    return state.n == 2


# ---- what is found ----


def truth_if(s):
    if s.box:
        s.box.pop()


def truth_not(s):
    if not s.box:
        return
    s.box.pop()


def truth_and(s):
    s.box and s.box.pop()


def truth_ternary(s):
    return s.box.pop() if s.box else None


def truth_while(s):
    while s.box:
        s.box.pop()


def truth_of_item(s):
    if s.nested[0]:
        s.nested[0].pop()


def truth_of_result(s):
    if boxes(s):
        boxes(s).pop()


def boxes(s):
    return s.box


@pytest.mark.parametrize(
    "body",
    [truth_if, truth_not, truth_and, truth_ternary, truth_while, truth_of_item, truth_of_result],
)
def test_whether_a_box_is_empty(body):
    report = race(make(box=lambda: [1], nested=lambda: [[1]]), [body] * 2, always, budget=LONG)
    assert report.found, report
    assert isinstance(report.error, IndexError)


def loop(s):
    for _ in s.box:
        pass


def loop_items(s):
    for _, _ in s.box.items():
        pass


def loop_stored(s):
    it = iter(s.box)
    for _ in it:
        pass


def comprehension(s):
    return [k for k in s.box]  # noqa: C416


def generator_expression(s):
    return list(k for k in s.box)  # noqa: C400


def grows(s):
    s.box["new"] = 1


@pytest.mark.parametrize(
    "body", [loop, loop_items, loop_stored, comprehension, generator_expression]
)
def test_a_box_that_grows_in_a_loop(body):
    setup = make(box=lambda: {1: 1, 2: 2})
    assert isinstance(race(setup, [body, grows], always, budget=LONG).error, RuntimeError)


class MyDeque(collections.deque):
    pass


class Slots:
    __slots__ = ("n",)

    def __init__(self):
        self.n = 0


class Counted:
    n = 0


def counted():
    Counted.n = 0
    return Counted()


def numbers():
    n = 0
    while True:
        n += 1
        yield n


attribute_n, item_0 = operator.attrgetter("n"), operator.itemgetter(0)


def by_key(s):
    s.box["k"] += 1


def by_index(s):
    s.box[0] += 1


def by_itemgetter(s):
    s.box[0] = item_0(s.box) + 1


def by_getattr(s):
    setattr(s, "n", getattr(s, "n") + 1)  # noqa: B009, B010


def by_object(s):
    object.__setattr__(s, "n", object.__getattribute__(s, "n") + 1)


def by_attrgetter(s):
    s.n = attribute_n(s) + 1


def by_class(s):
    type(s).n = s.n + 1


def by_pattern(s):
    match s:
        case SimpleNamespace(n=n):
            s.n = n + 1


def by_name(s):
    s.n += 1


def unpacks(s):
    (_,) = s.box


def takes(s):
    if s.box:
        s.box.pop()


def takes_by_pattern(s):
    match s.box:
        case {"k": _}:
            del s.box["k"]


def takes_bound(s):
    pop = s.box.pop
    if len(s.box):
        pop()


def calls(s):
    if s.box is not None:
        s.box()


def empties(s):
    s.box = None


def resumes(s):
    next(s.box)


@pytest.mark.parametrize(
    ("setup", "threads", "invariant"),
    [
        (make(box=lambda: collections.UserDict(k=0)), [by_key] * 2, lambda s: s.box["k"] == 2),
        (make(box=lambda: collections.ChainMap({"k": 0})), [by_key] * 2, lambda s: s.box["k"] == 2),
        (make(box=lambda: (ctypes.c_int * 1)()), [by_index] * 2, lambda s: s.box[0] == 2),
        (make(box=lambda: [0]), [by_itemgetter] * 2, lambda s: s.box[0] == 2),
        (make(box=lambda: MyDeque([1])), [takes] * 2, always),
        (make(box=lambda: [1]), [takes_bound] * 2, always),
        (make(box=lambda: [1]), [unpacks, lambda s: s.box.append(1)], always),
        (make(box=lambda: {"k": 1}), [takes_by_pattern] * 2, always),
        (make(box=lambda: print), [calls, empties], always),
        (make(box=numbers), [resumes] * 2, always),
        (make(), [by_getattr] * 2, is_two),
        (make(), [by_object] * 2, is_two),
        (make(), [by_attrgetter] * 2, is_two),
        (make(), [by_pattern] * 2, is_two),
        (Slots, [by_name] * 2, is_two),
        (counted, [by_class] * 2, is_two),
        (lambda: [1], [list.clear, lambda box: box.pop()], always),
    ],
)
def test_what_goes_through_code_in_c_is_found(setup, threads, invariant):
    report = race(setup, threads, invariant, budget=LONG)
    assert report.found, report


# ---- locks that were made before ----


class Account:
    lock = threading.Lock()

    def __init__(self):
        self.n = 0

    def add(self):
        with self.lock:
            self.n = self.n + 1

    def add_torn(self):
        with self.lock:
            seen = self.n
        with self.lock:
            self.n = seen + 1


class Savings(Account):
    pass


def by_default(state, lock=threading.Lock()):  # noqa: B008
    with lock:
        state.n += 1


@pytest.mark.parametrize("kind", [Account, Savings])
def test_a_lock_of_a_class(kind):
    real = Account.lock
    assert race(kind, [kind.add] * 2, is_two, budget=LONG).proved
    assert race(kind, [kind.add_torn] * 2, is_two, budget=LONG).found
    assert race(lambda: [kind()], [lambda s: s[0].add_torn()] * 2, lambda s: s[0].n == 2).found
    assert Account.lock is real


def test_a_lock_of_a_default_argument_and_of_a_decorator():
    real = by_default.__defaults__
    assert race(make(), [by_default] * 2, is_two, budget=LONG).proved
    assert by_default.__defaults__ == real

    def guarded(function):
        lock = threading.Lock()

        @functools.wraps(function)
        def inner(state):
            with lock:
                return function(state)

        return inner

    assert race(make(), [guarded(by_name), by_name], is_two, budget=LONG).found
    one = guarded(by_name)
    assert race(make(), [one, functools.partial(one)], is_two, budget=LONG).proved


# ---- what is not seen, and told ----


def by_vars(s):
    s.m = vars(s)


def copies(s):
    copy.copy(s)


def maps(s):
    list(map(attribute_n, [s]))


def sleeps(s):
    time.sleep(1)
    s.seen = s.n


def in_time(s):
    if s.lock.acquire(timeout=1):
        s.lock.release()


class Lazy:
    @functools.cached_property
    def value(self):
        return 1


@pytest.mark.parametrize(
    ("setup", "body", "words"),
    [
        (make(), by_vars, "as a dict"),
        (make(), copies, "what copy does"),
        (make(), maps, "attrgetter"),
        (make(), sleeps, "how long it sleeps"),
        (make(lock=threading.Lock), in_time, "time limit"),
        (Lazy, lambda s: s.value, "find it missing"),
        (make(), lambda s: numbers(), "generator"),
        (make(), id, "what id does"),
    ],
)
def test_what_is_not_seen_is_told_and_proves_nothing(setup, body, words):
    report = race(setup, [body] * 2, always, budget=LONG)
    assert not report.found
    assert not report.proved
    assert not report.exhausted
    assert any(words in one for one in report.unseen)
    assert "This is no proof" in report.verdict
    assert words in report.verdict
    assert report.to_dict()["unseen"] == report.unseen


def test_what_never_ends_proves_nothing():
    def spins(state):
        while not state.n:
            pass

    report = race(make(), [spins], always, budget=LONG)
    assert report.endless
    assert not report.proved


async def asynchronous(_):
    pass


@pytest.mark.parametrize(("one", "words"), [(asynchronous, "asyncio.run"), (numbers, "list")])
def test_a_function_that_runs_nothing_is_refused(one, words):
    with pytest.raises(TypeError, match=rf"threads\[0\] .* runs nothing of it; .*{words}"):
        race(list, [one], always)
    with pytest.raises(TypeError, match="setup is"):
        race(one, [print], always)


def test_a_coroutine_that_nobody_runs_is_a_finding():
    report = race(list, [lambda s: asynchronous(s)], always)
    assert isinstance(report.error, TypeError)
    assert "coroutine" in str(report.error)
