"""Are two numpy arrays, or scalars, the same to the bit? A part of `plait.lab.same`.

Only what the caller has imported is looked at: the lab doesn't need numpy.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .same_words import Verdict, abbreviate

__all__ = ["open_array", "openers_of_numpy"]

_CHUNK = 1 << 16  # elements: their bytes stay in the cache


def openers_of_numpy(
    of_float: Callable[[Any, Any], Any], of_array: Callable[[Any, Any], Any]
) -> dict[type, Callable[[Any, Any], Any]]:
    """What compares numpy's own types; nothing if it isn't imported."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "sctypeDict"):
        return {}
    found = {**dict.fromkeys(_kinds(numpy), of_array), numpy.float64: of_float}
    if (masked := getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)) is not None:
        found[masked] = _masked
    return found


def _masked(one: Any, other: Any) -> Iterator[Any]:
    """By what counts of a masked array: other attributes are made when they are asked for."""
    numpy: Any = sys.modules["numpy"]
    yield numpy.ma.getdata(one), numpy.ma.getdata(other), ""
    yield numpy.ma.getmaskarray(one), numpy.ma.getmaskarray(other), ".mask"
    yield one.fill_value, other.fill_value, ".fill_value"


@functools.cache
def _kinds(numpy: Any) -> list[type]:
    return [numpy.ndarray, *set(numpy.sctypeDict.values()) - {numpy.object_}]


def open_array(one: Any, other: Any, tolerance: float, fresh: Callable[[Any, Any], Any]) -> Any:
    """Compare two arrays, or two scalars of one type.

    Args:
        one: the one.
        other: the other.
        tolerance: by how much floats and complex numbers may differ.
        fresh: makes a step for two lists that were made here.

    Returns:
        As all that takes values apart in `plait.lab.same`.
    """
    dtype = one.dtype
    if (dtype, one.shape) != (other.dtype, other.shape):
        return Verdict(
            f"{dtype} of shape {one.shape} expected, got {other.dtype} of shape {other.shape}"
        )
    if dtype.names is not None:  # by fields: the bytes between them mean nothing
        return iter([(one[name], other[name], f"[{name!r}]") for name in dtype.names])
    if dtype.hasobject:  # its bytes are addresses
        return fresh(one.tolist(), other.tolist())
    if one.shape == () and not _is_long(dtype) and one.tobytes() == other.tobytes():
        return None
    return _elements(one, other, tolerance)


def _is_long(dtype: Any) -> bool:
    return dtype.char in "gG"


def _elements(one: Any, other: Any, tolerance: float) -> Iterator[Any]:
    """The elements that differ, chunk by chunk."""
    numpy = sys.modules["numpy"]
    mine, theirs = numpy.asarray(one).reshape(-1), numpy.asarray(other).reshape(-1)
    for start in range(0, mine.size, _CHUNK):
        a, b = mine[start : start + _CHUNK], theirs[start : start + _CHUNK]
        if _is_long(a.dtype):
            wrong = ~_same_long(numpy, a, b)
        elif a.tobytes() == b.tobytes():
            continue
        else:
            wrong = (_bytes_of(numpy, a) != _bytes_of(numpy, b)).any(axis=1)
        if tolerance and a.dtype.kind in "fc":
            with numpy.errstate(all="ignore"):
                limit = tolerance * numpy.maximum(abs(a), abs(b))
                close = numpy.isfinite(a) & numpy.isfinite(b) & (abs(a - b) <= limit)
            wrong &= ~(close | (numpy.isnan(a) & numpy.isnan(b)))
        for index in numpy.flatnonzero(wrong):
            place = numpy.unravel_index(start + int(index), one.shape) if one.shape else ()
            label = f"[{', '.join(map(str, map(int, place)))}]" if place else ""
            expected, got = a[index], b[index]
            words = f"{abbreviate(expected.item())} expected, got {abbreviate(got.item())}"
            yield Verdict(words), None, label
            return


def _bytes_of(numpy: Any, chunk: Any) -> Any:
    return numpy.frombuffer(chunk.tobytes(), numpy.uint8).reshape(chunk.size, -1)


def _same_long(numpy: Any, one: Any, other: Any) -> Any:
    """For long doubles: some of their bytes mean nothing."""
    if one.dtype.kind == "c":
        return _same_long(numpy, one.real, other.real) & _same_long(numpy, one.imag, other.imag)
    equal = (one == other) | (numpy.isnan(one) & numpy.isnan(other))
    return equal & (numpy.signbit(one) == numpy.signbit(other))
