"""What travels to a pool's workers and back: small values, large ones, arrays, odd ones."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import enum
import fractions
import gc
import math
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import plait
import pytest
from conftest import PATIENCE
from light import double, echo, spoil


@pytest.fixture(scope="module")
def pool() -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(2) as pool:
        yield pool


class Colour(enum.Enum):
    RED = 1


class Number(int):
    """Not an int: a codec for exact types must not make it one."""


class Text(str):
    __slots__ = ("note",)


Pair = collections.namedtuple("Pair", "a b")

VALUES = [
    None,
    True,
    False,
    Ellipsis,
    NotImplemented,
    0,
    -1,
    2**31,
    -(2**31) - 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**64,
    -(2**200),
    10**4000,
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    5e-324,
    1 + 2j,
    "",
    "ascii",
    "schön",
    "日本",
    "\U0001f600",
    "\udc80 a lone surrogate",
    "nul\0in it",
    "x" * 100_000,
    b"",
    b"\0\xff",
    b"b" * 1_000_000,
    bytearray(b"mutable"),
    (),
    (1,),
    ((), ((),)),
    [],
    [1, "a", None],
    {},
    {"a": [1, {"b": ()}]},
    {1, 2},
    frozenset("ab"),
    range(3, 9, 2),
    slice(1, None),
    Number(5),
    Text("subclass"),
    Colour.RED,
    Pair(1, [2]),
    int,
    len,
    math.sin,
    datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
    decimal.Decimal("1.10"),
    fractions.Fraction(1, 3),
    array.array("d", [1.5, 2.5]),
    collections.OrderedDict(a=1),
    collections.deque([1], maxlen=3),
    [(n, str(n), float(n), None) for n in range(5000)],
]


def test_values_come_back_as_they_were(pool: plait.ProcessPoolExecutor) -> None:
    for value, found in zip(VALUES, pool.map(echo, VALUES, chunksize=1), strict=True):
        assert type(found) is type(value), value
        assert found == value
        if not isinstance(value, set | frozenset):  # whose order depends on their making
            assert repr(found) == repr(value)
    assert list(pool.map(echo, VALUES)) == VALUES
    assert [pool.submit(echo, value).result(PATIENCE) for value in VALUES] == VALUES
    assert math.isnan(pool.submit(echo, math.nan).result(PATIENCE))


def test_mutable_results_are_ones_own(pool: plait.ProcessPoolExecutor) -> None:
    item = [1]
    one, two = pool.map(echo, [item, item])
    assert one == two == [1]
    assert one is not two
    assert one is not item
    data = pool.submit(echo, bytearray(2_000_000)).result(PATIENCE)
    data[0] = 7  # may be changed, and grown
    data += b"x"
    assert len(data) == 2_000_001


def test_shared_members_stay_shared(pool: plait.ProcessPoolExecutor) -> None:
    inner: list[Any] = []
    value = {"a": inner, "b": inner}
    found = pool.submit(echo, value).result(PATIENCE)
    assert found["a"] is found["b"]
    inner.append(inner)
    found = pool.submit(echo, inner).result(PATIENCE)
    assert found[0] is found


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 65_535, 65_536, 1 << 20, (1 << 24) + 1])
def test_every_length(pool: plait.ProcessPoolExecutor, length: int) -> None:
    value = bytes(k % 251 for k in range(min(length, 251))) * (length // 251 + 1)
    value = value[:length]
    assert pool.submit(echo, value).result(PATIENCE) == value
    assert list(pool.map(echo, [value] * 3)) == [value] * 3


def test_growing_results(pool: plait.ProcessPoolExecutor) -> None:
    sizes = [0, 10, 1000, 30_000, 1_000_000, 3] * 20
    for size, found in zip(sizes, pool.map(bytes, sizes, chunksize=5), strict=True):
        assert found == bytes(size)


# ---- arrays --------------------------------------------------------------------------------------


def flags(value: Any) -> tuple[bool, bool, str]:
    return value.flags.writeable, value.flags.c_contiguous, str(value.dtype)


def test_arrays_of_all_kinds(pool: plait.ProcessPoolExecutor) -> None:
    np = pytest.importorskip("numpy")
    big = np.arange(1_000_000.0)
    arrays = [
        np.array(3.5),
        np.zeros(0),
        np.zeros((3, 0, 2)),
        np.arange(12).reshape(3, 4),
        big,
        big[::2],
        big[::-1],
        big.reshape(1000, 1000).T,
        np.asfortranarray(big.reshape(1000, 1000)),
        big.astype(">f8"),
        big > 5,
        (big + 1j).astype(np.complex64),
        np.array(["a", "schön"]),
        np.array([b"x", b"yz"]),
        np.array([1, "a", None, [2]], dtype=object),
        np.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
        np.float64(2.5),
        np.broadcast_to(np.arange(3), (100_000, 3)),
        np.ma.array([1, 2, 3], mask=[0, 1, 0]),
    ]
    for value, found in zip(arrays, pool.map(echo, arrays, chunksize=1), strict=True):
        assert type(found) is type(value)
        assert found.dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
        assert found.shape == value.shape
        np.testing.assert_array_equal(found, value)
    for value in arrays[:10]:
        np.testing.assert_array_equal(pool.submit(double, value).result(PATIENCE), value * 2)


def test_an_array_that_a_worker_changes_is_its_own(pool: plait.ProcessPoolExecutor) -> None:
    np = pytest.importorskip("numpy")
    value = np.ones(1_000_000)
    future = pool.submit(spoil, value)
    # Either it may be changed there, or that is refused; it never reaches this one, nor another.
    error = future.exception(PATIENCE)
    assert error is None or "read-only" in str(error)
    assert value.sum() == 1_000_000
    pair = list(pool.map(double, [value, value]))
    assert [part.sum() for part in pair] == [2_000_000] * 2


def test_results_may_be_changed_and_outlive_the_pool() -> None:
    np = pytest.importorskip("numpy")
    with plait.ProcessPoolExecutor(2) as pool:
        kept = [pool.submit(np.full, 500_000, float(n)).result(PATIENCE) for n in range(6)]
        kept[0][:] = -1.0
        later = [pool.submit(np.full, 500_000, 9.0).result(PATIENCE) for _ in range(6)]
        for n in range(1, 6):
            assert (kept[n] == n).all()
    del pool
    gc.collect()
    assert (kept[0] == -1.0).all()
    assert (kept[5] == 5.0).all()
    assert (later[0] == 9.0).all()
    kept[1] += 1
    assert (kept[1] == 2.0).all()
    assert pickle.loads(pickle.dumps(kept[2])).sum() == 1_000_000.0


def test_views_of_one_result_hold_it(pool: plait.ProcessPoolExecutor) -> None:
    np = pytest.importorskip("numpy")
    part = pool.submit(np.arange, 1_000_000.0).result(PATIENCE)[10:20]
    for _ in range(8):
        pool.submit(np.zeros, 1_000_000).result(PATIENCE)
    assert part.tolist() == list(range(10, 20))


def test_a_value_with_many_buffers(pool: plait.ProcessPoolExecutor) -> None:
    np = pytest.importorskip("numpy")
    value = {n: np.full(1000 + n, n) for n in range(1500)}
    found = pool.submit(echo, value).result(PATIENCE)
    assert found.keys() == value.keys()
    assert all((found[n] == n).all() and len(found[n]) == 1000 + n for n in value)


def test_pickle_buffers_and_views(pool: plait.ProcessPoolExecutor) -> None:
    found = pool.submit(echo, pickle.PickleBuffer(b"y" * 500_000)).result(PATIENCE)
    assert bytes(found) == b"y" * 500_000


def test_arrays_by_many_threads(pool: plait.ProcessPoolExecutor) -> None:
    np = pytest.importorskip("numpy")
    wrong: list[int] = []

    def work(k: int) -> None:
        for n in range(15):
            value = np.full(100_000 * (n % 3 + 1), k * 100 + n, dtype=np.int64)
            found = pool.submit(double, value).result(PATIENCE)
            if not (found == 2 * (k * 100 + n)).all() or len(found) != len(value):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_large_and_small_side_by_side(pool: plait.ProcessPoolExecutor) -> None:
    items = [bytes(300_000) if n % 7 == 0 else n for n in range(400)]
    assert list(pool.map(echo, items)) == items
    assert list(pool.map(echo, items, chunksize=1)) == items
