"""compare: what counts as the same result, and what doesn't."""

from __future__ import annotations

import array
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import math
import pickle
import struct
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interleavings import programs
from plait.lab import compare
from plait.lab.same import Difference, first_difference

NAN = float("nan")


@dataclasses.dataclass
class Point:
    x: object


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: object


class Base:
    __slots__ = ("x",)


class Slots(Base):
    def __init__(self, x):
        self.x = x


class Tagged(list):
    def __init__(self, members, tag):
        super().__init__(members)
        self.tag = tag


class TaggedDict(dict):
    def __init__(self, tag):
        super().__init__(a=1)
        self.tag = tag


class TaggedTuple(tuple):
    def __new__(cls, tag):
        self = super().__new__(cls, (1,))
        self.tag = tag
        return self


class Number(int):
    pass


class Never:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        raise ValueError("never")

    __hash__ = None


class Always:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


Pair = collections.namedtuple("Pair", "a b")


def one_function(n):
    return n


def other_function(n):
    return n + 1


def closed_over(value):
    return lambda: value


def negative_nan():
    return struct.unpack("d", struct.pack("Q", 0xFFF8 << 48))[0]


DIFFERENT = {
    "exceptions": (ValueError("a"), ValueError("b")),
    "exceptions, nested": ({"e": KeyError(1)}, {"e": KeyError(2)}),
    "exceptions' attributes": (ImportError("a", name="x"), ImportError("a", name="y")),
    "functions": (one_function, other_function),
    "closures": (closed_over(1), closed_over(True)),
    "partials": (functools.partial(int, "1"), functools.partial(int, "2")),
    "bound methods": ([1].append, [2].append),
    "slots of a base": (Slots(1), Slots(2)),
    "slots": (Slotted(1), Slotted(1.0)),
    "set of 1 and True": ({1}, {True}),
    "set of zeros": ({0.0}, {-0.0}),
    "sets' sizes": ({1, NAN}, {1, NAN, negative_nan()}),
    "frozenset in a set": ({frozenset({1})}, {frozenset({True})}),
    "keys": ({1: "a"}, {True: "a"}),
    "zeros as keys": ({0.0: 1}, {-0.0: 1}),
    "values of NaN": ({NAN: 1}, {math.nan * 1: 2}),
    "dataclass": (Point(1), Point(1.0)),
    "dataclass, zeros": (Point(0.0), Point(-0.0)),
    "namespace": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=True)),
    "attributes": (types.SimpleNamespace(a=1), types.SimpleNamespace(b=1)),
    "deque": (collections.deque([1]), collections.deque([True])),
    "deque, maxlen": (collections.deque([1], 3), collections.deque([1], 4)),
    "array": (array.array("i", [1]), array.array("d", [1.0])),
    "array, zeros": (array.array("d", [0.0]), array.array("d", [-0.0])),
    "list's attribute": (Tagged([1], 1), Tagged([1], 2)),
    "list's members": (Tagged([1], 1), Tagged([2], 1)),
    "dict's attribute": (TaggedDict(1), TaggedDict(2)),
    "tuple's attribute": (TaggedTuple(1), TaggedTuple(2)),
    "Decimals": (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    "OrderedDict": (
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
    ),
    "defaultdict": (collections.defaultdict(int), collections.defaultdict(list)),
    "time zones": (
        datetime.datetime(2020, 1, 1, 12, tzinfo=datetime.UTC),
        datetime.datetime(2020, 1, 1, 13, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
    ),
    "memoryviews": (memoryview(b"ab"), memoryview(b"ab").cast("c")),
    "memoryview and list": (memoryview(b"a"), [97]),
    "bytes and bytearray": (b"a", bytearray(b"a")),
    "ranges": (range(0, 3, 2), range(0, 4, 2)),
    "iterators": (iter([1]), iter([2])),
    "used iterators": (iter([1, 2]), (lambda it: (next(it), it)[1])(iter([1, 2]))),
    "named tuples": (Pair(1, 2), Pair(1, 2.0)),
    "named tuple and tuple": (Pair(1, 2), (1, 2)),
    "ints of a class": (Number(1), Number(2)),
    "int of a class": (Number(1), 1),
    "an == that is always true": (Always(1), Always(2)),
    "members that are ==": ({Always(1)}, {Always(2)}),
    "enum": (Colour.RED, Colour.BLUE),
    "classes": (int, float),
    "complex": (complex(0.0, 0.0), complex(0.0, -0.0)),
    "dict views": ({1: 2}.values(), {1: 3}.values()),
    "lists in deep": ([[[[1]]]], [[[[1], 2]]]),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_told_from_both_sides(name):
    one, other = DIFFERENT[name]
    for a, b in ((one, other), (other, one), ([1, one], [1, other]), ({"k": one}, {"k": other})):
        found = first_difference(a, b)
        assert found is not None
        assert found.decided
        assert found.startswith("at ")


def recursive():
    found = []
    found.append({"self": found})
    return found


def looped_objects():
    one = Point(None)
    one.x = [one]
    return one


def shared(depth=60):
    found = [1.5, "leaf"]
    for _ in range(depth):
        found = [found, found]
    return found


def deep(depth=50_000):
    found = ["leaf", 1]
    for _ in range(depth):
        found = [found, 1]
    return found


SAME = {
    "NaN in a set": lambda: {float("nan")},
    "NaN in a frozenset": lambda: frozenset({float("nan"), 1}),
    "NaN in a tuple in a set": lambda: {(1, float("nan")), (2, float("nan"))},
    "NaN as a key": lambda: {float("nan"): 1, "a": 2},
    "NaNs as keys": lambda: {float("nan"): 1, float("nan") * 1: 2},
    "NaN in a dataclass": lambda: Point(float("nan")),
    "NaN in a frozen one in a set": lambda: {Slotted(float("nan")), Slotted(1)},
    "NaN in a deque": lambda: collections.deque([float("nan")], 5),
    "NaN in an array": lambda: array.array("d", [float("nan")]),
    "NaN in a namespace": lambda: types.SimpleNamespace(a=float("nan")),
    "Decimal NaN": lambda: decimal.Decimal("nan"),
    "signalling Decimal": lambda: decimal.Decimal("sNaN12"),
    "order of keys": lambda: {"a": 1, "b": [2.5]},
    "order of a set": lambda: {str(n) for n in range(100)},
    "objects in a set": lambda: {Never.__name__, (1, 2)},
    "raising ==": lambda: [Never(1.5)],
    "exceptions": lambda: [ValueError("a", 1), OSError(2, "x")],
    "partial": lambda: functools.partial(int, "1", base=3),
    "counter": lambda: collections.Counter("aab"),
    "ordered": lambda: collections.OrderedDict(b=1, a=2),
    "default": lambda: collections.defaultdict(list, a=[1]),
    "dates": lambda: datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "slots": lambda: Slots(float("nan")),
    "iterator": lambda: iter([1, 2]),
    "members": lambda: [Colour.RED, int, len, math.sin, one_function, None, ...],
    "in itself": recursive,
    "objects in themselves": looped_objects,
    "shared": shared,
    "deep": deep,
    "named": lambda: Pair(1, float("nan")),
    "subclasses": lambda: [Tagged([1.5], "a"), TaggedDict(2), TaggedTuple("x"), Number(7)],
    "memoryview": lambda: memoryview(array.array("d", [1.5])),
    "methods": lambda: [[1].append, Point(1).__repr__],
    "closures": lambda: closed_over([1]),
    "mappingproxy": lambda: types.MappingProxyType({"a": 1.5}),
    "views": lambda: [{1: 2.5}.keys(), {1: 2.5}.values(), {1: [2.5]}.items()],
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_made_twice_alike_is_the_same(name):
    assert first_difference(SAME[name](), SAME[name]()) is None


@pytest.mark.parametrize("name", sorted(set(SAME) - {"deep", "memoryview", "views"}))
def test_what_was_pickled_is_the_same(name):
    value = SAME[name]()
    try:
        again = pickle.loads(pickle.dumps(value))
    except (TypeError, AttributeError, pickle.PicklingError, RecursionError):
        pytest.skip("it cannot be pickled")
    assert first_difference(value, again) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (object(), object()),
        (threading.Lock(), threading.Lock()),
        ((n for n in [1]), (n for n in [1])),
        (Point(threading.Lock()), Point(threading.Lock())),
        ({object(), 1}, {object(), 1}),
        (type("Same", (), {})(), type("Same", (), {})()),
    ],
)
def test_what_cannot_be_compared_is_said_to_be_so(one, other):
    found = first_difference([one], [other])
    assert isinstance(found, Difference)
    assert not found.decided
    assert "cannot be compared" in found
    again = pickle.loads(pickle.dumps(found))
    assert (again, again.decided) == (found, False)
    assert first_difference([one], [one]) is None


def test_a_text_about_comparing_is_no_verdict_on_it():
    assert first_difference("cannot be compared", "or so").decided
    with pytest.raises(AttributeError):
        first_difference("a", "a").decided  # noqa: B018 - the same is None


def test_the_place_is_named_as_python_would():
    nested = {"a": [Point({"b": (1, 2)})]}
    other = copy.deepcopy(nested)
    other["a"][0].x["b"] = (1, 3)
    assert first_difference(nested, other) == "at ['a'][0].x['b'][1]: 2 expected, got 3"
    assert first_difference([ValueError(1)], [ValueError(2)]) == (
        "at [0]: ValueError(1) expected, got ValueError(2)"
    )
    assert first_difference({1}, {True}) == "at the result: int 1 expected, got bool True"
    assert first_difference({"a": 1}, {"b": 1}) == "at the result: key 'a' expected, and missing"
    assert first_difference({1}, {1, 2}) == "at the result: member 2 is not expected"
    inside = first_difference(collections.deque([1], 3), collections.deque([1], 4))
    assert "3 expected, got 4" in inside


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x,
        lambda x: [x],
        lambda x: {x},
        lambda x: {x: 1},
        lambda x: {(1, x), (2, x)},
        lambda x: Point(x),
        lambda x: collections.deque([x]),
        lambda x: array.array("d", [x]),
        lambda x: memoryview(array.array("d", [x])),
        lambda x: types.SimpleNamespace(x=x),
        lambda x: ValueError(x),
        lambda x: functools.partial(abs, x),
        lambda x: complex(x, 1),
    ],
)
def test_a_tolerance_holds_everywhere(make):
    one, near, far = make(1.0), make(1.0 + 1e-12), make(1.1)
    assert first_difference(one, near) is not None
    assert first_difference(one, near, tolerance=1e-9) is None
    assert first_difference(one, far, tolerance=1e-9) is not None
    assert first_difference(make(math.inf), make(-math.inf), tolerance=0.5) is not None


def test_a_tolerance_is_for_floats_only():
    for one, other in ((1, 2), (decimal.Decimal(1), decimal.Decimal("1.0000001")), ("a", "b")):
        assert first_difference([one], [other], tolerance=0.9) is not None
    assert first_difference({1.0 * n for n in range(50)}, {n + 1e-9 for n in range(50)}) is not None
    large = {1000.0 + n for n in range(500)}
    assert first_difference(large, {n + 1e-6 for n in large}, tolerance=1e-8) is None


def test_many_members_without_an_equal_are_given_up_on():
    crowd = [{Slotted(float("nan")) for _ in range(600)} for _ in range(2)]
    crowd[1].pop()
    crowd[1].add(Slotted(0.5))
    assert first_difference(*crowd) is not None


def test_numpy_arrays_and_scalars():
    numpy = pytest.importorskip("numpy")
    array_of = numpy.array
    floats = array_of([0.0, NAN, 1.5])
    different = [
        (floats, array_of([-0.0, NAN, 1.5])),
        (floats, floats.astype("f4")),
        (floats, floats.astype(">f8")),
        (floats, floats.reshape(3, 1)),
        (numpy.zeros((0, 3)), numpy.zeros((0, 5))),
        (memoryview(numpy.zeros((0, 3))), memoryview(numpy.zeros((0, 5)))),
        (array_of(["a"], dtype=object), array_of(["b"], dtype=object)),
        (array_of([1], dtype=object), array_of([True], dtype=object)),
        (numpy.float32(1), numpy.float64(1)),
        (numpy.float32(0.0), numpy.float32(-0.0)),
        (numpy.longdouble(1), numpy.longdouble(2)),
        (numpy.ma.array([1, 2], mask=[0, 1]), numpy.ma.array([1, 2], mask=[1, 0])),
        (array_of([(1, 2.0)], dtype="i4,f8"), array_of([(1, 3.0)], dtype="i4,f8")),
        (Point(floats), Point(floats + 1)),
    ]
    for one, other in different:
        found = first_difference([one], [other])
        assert found is not None, (one, other)
        assert found.decided
    big = numpy.arange(200_000.0).reshape(400, 500)
    other = big.copy()
    other[399, 7] = -1
    assert first_difference(big, other) == "at [399, 7]: 199507.0 expected, got -1.0"
    for value in (
        *(floats, floats[::2], numpy.asfortranarray(big), array_of(3.5), array_of([])),
        *(array_of(["a", "b"]), array_of([{"a": NAN}], dtype=object), Point(floats)),
        *(numpy.longdouble(NAN), array_of([1, NAN], dtype="g"), numpy.datetime64("NaT", "s")),
        *(numpy.zeros(2, dtype=[("a", "i1"), ("o", "O")]), numpy.float32(NAN), numpy.str_("x")),
        *(numpy.ma.array([1, 2], mask=[0, 1]), numpy.dtype("f4"), numpy.add),
        numpy.zeros(3, dtype=numpy.dtype([("a", "i1"), ("b", "f8")], align=True)),
    ):
        assert first_difference(value, pickle.loads(pickle.dumps(value))) is None, value
        assert first_difference(value, copy.deepcopy(value)) is None, value
    for make in (floats.astype, lambda kind: (floats + 1j).astype(kind)):
        kind = "f8" if make == floats.astype else "c16"
        nearly = make(kind) * (1 + 1e-12)
        assert first_difference(make(kind), nearly, tolerance=1e-9) is None
        assert first_difference(make(kind), nearly) is not None
    assert first_difference(numpy.float32(1), numpy.float32(1.0000001), tolerance=1e-3) is None


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2),
    st.sampled_from([0.0, -0.0, 1.0, NAN, 2.0, math.inf, 1 + 0j, -0.0 + 0j]),
    st.sampled_from(["", "a", b"", b"a"]),
)
# Those whose repr tells everything that counts here.
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(collections.deque),
        inner.map(Point),
        inner.map(lambda x: types.SimpleNamespace(x=x)),
        st.lists(inner, max_size=2).map(lambda x: ValueError(*x)),
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2).map(
            lambda found: dict(sorted(found.items()))
        ),
    ),
    max_leaves=6,
)
hashables = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(tuple),
        st.frozensets(inner, max_size=3),
        inner.map(Slotted),
    ),
    max_leaves=5,
)


@programs
@given(values, values)
def test_two_are_the_same_if_they_look_the_same(one, other):
    found = first_difference(one, other)
    assert (found is None) == (repr(one) == repr(other)), found
    assert (first_difference(other, one) is None) == (found is None)


@programs
@given(st.sets(hashables, max_size=5), st.randoms(use_true_random=False))
def test_a_set_is_the_same_in_any_order_and_another_without_a_member(members, random):
    shuffled = list(pickle.loads(pickle.dumps(members)))
    random.shuffle(shuffled)
    assert first_difference(members, set(shuffled)) is None
    assert first_difference(dict.fromkeys(members, 1.5), dict.fromkeys(shuffled, 1.5)) is None
    if shuffled:
        found = first_difference(members, set(shuffled[1:]))
        assert found is not None
        assert found.decided


def constant_log():
    log = []

    def task(item):
        log.append(item)
        return log

    return task


def test_results_that_a_later_run_changes_are_refused():
    report = compare(constant_log(), [1, 2], models=["threading"], repeats=1)
    assert all(not row.ok for row in report.rows)
    assert "a later run changes the results of the first" in report["serial"].reason


def test_processes_that_give_the_same_are_not_refused():
    report = compare(make_hard, [0], models=["futures.process"], repeats=1, workers=1)
    assert [row.reason for row in report.rows] == [None, None]


def make_hard(n):
    return {
        "nan": {float("nan")},
        "point": Point(float("nan")),
        "error": ValueError(n),
        "deque": collections.deque([n], 3),
        "partial": functools.partial(int, str(n)),
    }
