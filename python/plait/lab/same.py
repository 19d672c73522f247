"""Are two results the same, to the bit? Where do they differ first?

``==`` is not enough: it calls 1, 1.0 and True equal, 0.0 and -0.0 too, and NaN unequal to
itself. Two models that give those did not do the same.
"""

from __future__ import annotations

import cmath
import math
import reprlib
import struct
from collections.abc import Iterable
from typing import Any

__all__ = ["abbreviate", "first_difference"]

# For these, once the types agree, == is exact, and C compares whole containers of them fast.
_EXACT = frozenset({int, str, bytes, bool, type(None)})

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = _SHORT.maxset = 4


def abbreviate(value: object) -> str:
    """A value's repr, cut so that a line of a report can hold two.

    >>> abbreviate(list(range(100)))
    '[0, 1, 2, 3, ...]'
    """
    try:
        return _SHORT.repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def first_difference(
    expected: Any, got: Any, where: str = "", *, tolerance: float = 0.0
) -> str | None:
    """Where two results differ first, as words; None if they are the same to the bit.

    Lists, tuples, dicts and objects are compared member by member, types included; a
    memoryview counts as the list that it holds, since that is how a kernel hands out an image.

    Args:
        expected: the one.
        got: the other.
        where: how to call the place that they have in a larger result.
        tolerance: by how much floats may differ, relative to the larger one.

    >>> first_difference([1, 2, 3], [1, 2, 4])
    'at [2]: 3 expected, got 4'
    >>> first_difference([1], [True])
    'at [0]: int 1 expected, got bool True'
    >>> first_difference({"a": 0.0}, {"a": 0.0}) is None
    True
    """
    expected, got = _plain(expected), _plain(got)
    if type(expected) is not type(got):
        return _differ(
            where,
            f"{type(expected).__name__} {abbreviate(expected)}",
            f"{type(got).__name__} {abbreviate(got)}",
        )
    if isinstance(expected, float):
        same = struct.pack("d", expected) == struct.pack("d", got) or (
            tolerance > 0 and math.isclose(expected, got, rel_tol=tolerance)
        )
    elif isinstance(expected, complex):
        same = struct.pack("dd", expected.real, expected.imag) == struct.pack(
            "dd", got.real, got.imag
        ) or (tolerance > 0 and cmath.isclose(expected, got, rel_tol=tolerance))
    elif isinstance(expected, (list, tuple)):
        return _in_sequence(expected, got, where, tolerance)
    elif isinstance(expected, dict):
        return _in_dict(expected, got, where, tolerance)
    elif hasattr(expected, "tobytes") and hasattr(expected, "dtype"):  # an array
        if getattr(expected.dtype, "hasobject", False) and expected.shape == got.shape:
            # Its bytes are addresses.
            return first_difference(expected.tolist(), got.tolist(), where, tolerance=tolerance)
        same = (expected.dtype, expected.shape, expected.tobytes()) == (
            got.dtype,
            got.shape,
            got.tobytes(),
        )
        if not same and tolerance and expected.dtype.kind in "fc" and expected.shape == got.shape:
            return first_difference(expected.tolist(), got.tolist(), where, tolerance=tolerance)
    elif getattr(type(expected), "__eq__", None) is object.__eq__:
        return _in_object(expected, got, where, tolerance)
    else:
        try:
            same = bool(expected == got)
        except Exception as error:
            return f"at {where or 'the result'}: cannot be compared: {error!r}"
    return None if same else _differ(where, abbreviate(expected), abbreviate(got))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, memoryview) else value


def _differ(where: str, expected: str, got: str) -> str:
    return f"at {where or 'the result'}: {expected} expected, got {got}"


def _one_simple_kind(expected: Iterable[Any], got: Iterable[Any]) -> bool:
    """Whether all members of both are of one and the same simple type: == is then exact."""
    kinds = set(map(type, expected))
    return len(kinds) == 1 and kinds <= _EXACT and set(map(type, got)) == kinds


def _in_sequence(expected: Any, got: Any, where: str, tolerance: float) -> str | None:
    if _one_simple_kind(expected, got) and expected == got:
        return None
    for index, (one, other) in enumerate(zip(expected, got, strict=False)):
        if found := first_difference(one, other, f"{where}[{index}]", tolerance=tolerance):
            return found
    if len(expected) != len(got):
        return _differ(f"{where}.len()", str(len(expected)), str(len(got)))
    return None


def _in_dict(expected: Any, got: Any, where: str, tolerance: float) -> str | None:
    # The order of keys is no part of the result: no model promises one.
    if (
        _one_simple_kind(expected, got)
        and _one_simple_kind(expected.values(), got.values())
        and expected == got
    ):
        return None
    got_kinds = {key: type(key) for key in got}
    for key, one in expected.items():
        if got_kinds.pop(key, None) is not type(key):
            return f"at {where or 'the result'}: key {abbreviate(key)} expected, and missing"
        if found := first_difference(
            one, got[key], f"{where}[{abbreviate(key)}]", tolerance=tolerance
        ):
            return found
    for key in got_kinds:
        return f"at {where or 'the result'}: key {abbreviate(key)} is not expected"
    return None


def _in_object(expected: object, got: object, where: str, tolerance: float) -> str | None:
    """Objects without an ``==`` of their own: the same if their attributes are."""
    if expected is got:
        return None
    try:
        return first_difference(vars(expected), vars(got), where, tolerance=tolerance)
    except TypeError:
        kind = type(expected).__name__
        return f"at {where or 'the result'}: two {kind} objects cannot be compared"
