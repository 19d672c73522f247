"""Are two results the same, to the bit? Where do they differ first?

``==`` is not enough: it calls 1, 1.0 and True equal, 0.0 and -0.0 too, and NaN unequal to
itself; inside of a set or a dataclass as well. Two models that give those did not do the same.

So values are taken apart, and compared part by part. Two are the same if they are of one class
and

- numbers, text, bytes, arrays: have the same bits, and the same element type, shape and format;
- lists, tuples: have the same members in the same order;
- sets, dicts: have the same members in whichever order, since no model promises one (an
  OrderedDict does); a member is looked for by ``==``, and then compared as everything is;
- functions: have the same code, defaults, and values that they close over or use as globals;
- classes, modules, bare ``object()``: are one and the same;
- any other objects: consist of the same parts, which are those that ``copy`` and ``pickle`` take
  of them: attributes, slots, and what their class is called with. Their own ``==`` isn't asked.
  Nor does it matter what they leave out: an exception's traceback and cause.

What cannot be taken apart, such as a lock or a generator, cannot be compared. Objects may
contain themselves: what is being compared already is taken to be the same until a difference
is found elsewhere.
"""

from __future__ import annotations

import array
import cmath
import copyreg
import itertools
import math
import struct
import types
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from .._byvalue import global_names
from .same_arrays import open_array, openers_of_numpy
from .same_members import ABSENT, pair_members
from .same_words import DIFFERENT, Difference, Step, Verdict, abbreviate, of_two_kinds, say

__all__ = ["Difference", "abbreviate", "first_difference"]

# For these, once the types agree, == is exact, and C compares whole containers of them fast.
_EXACT = frozenset(
    {int, str, bytes, bool, bytearray, type(None), type(...), type(NotImplemented), types.CodeType}
)
_SIMPLE = frozenset({int, str, bytes, bool, type(None)})
_OF_FUNCTIONS = (
    *("__module__", "__qualname__", "__code__", "__defaults__", "__kwdefaults__"),
    *("__closure__", "__dict__"),
)


def first_difference(
    expected: Any, got: Any, where: str = "", *, tolerance: float = 0.0
) -> Difference | None:
    """Where two results differ first; None if they are the same to the bit, as told above.

    Args:
        expected: the one.
        got: the other.
        where: how to call the place that they have in a larger result.
        tolerance: by how much floats and complex numbers may differ, relative to the larger
            one, wherever they are; numpy's too, and those in arrays.

    >>> first_difference([1, 2, 3], [1, 2, 4])
    'at [2]: 3 expected, got 4'
    >>> first_difference([1], [True])
    'at [0]: int 1 expected, got bool True'
    >>> first_difference({"a": {0.0}}, {"a": {-0.0}})
    "at ['a']: 0.0 expected, got -0.0"
    >>> first_difference({"a": float("nan")}, {"a": float("nan")}) is None
    True
    """
    return _Walk(tolerance).difference(expected, got, where)


Opened = Verdict | Iterator[Step] | None  # None: the same


class _Walk:
    """One comparison. It keeps its own stack, so that depth is no matter."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._met: dict[int, None] = {}  # pairs under way or done, by both ids
        self._alive: list[Any] = []  # made here: their ids must not be given to others
        self._openers: dict[type, Callable[[Any, Any], Opened]] = {
            float: self._float,
            complex: self._complex,
            list: self._sequence,
            tuple: self._sequence,
            dict: self._dict,
            set: self._set,
            frozenset: self._set,
            array.array: self._buffer,
            memoryview: self._buffer,
            types.FunctionType: self._function,
            types.CellType: self._cell,
            types.MappingProxyType: lambda one, other: self._fresh(dict(one), dict(other)),
            type({}.keys()): lambda one, other: self._fresh(set(one), set(other)),
            type({}.values()): lambda one, other: self._fresh(list(one), list(other)),
            type({}.items()): lambda one, other: self._fresh(dict(one), dict(other)),
            **openers_of_numpy(self._float, self._array),
        }

    def difference(self, expected: Any, got: Any, where: str = "") -> Difference | None:
        """Where they differ first."""
        openers = self._openers
        steps: Iterator[Step] = iter([(expected, got, where)])
        outer: list[Iterator[Step]] = []
        path: list[Step] = []
        while True:
            for step in steps:
                one, other, _ = step
                if one is other:
                    continue
                kind = type(one)
                if kind is not type(other):
                    return say(of_two_kinds(one, other), [*path, step])
                if kind in _EXACT:
                    if one == other:
                        continue
                    return say(DIFFERENT, [*path, step])
                try:
                    opened = openers.get(kind, self._object)(one, other)
                except Exception as error:  # of a property, a __reduce__, an __eq__ of keys
                    opened = Verdict(f"cannot be compared: {error!r}", decided=False)
                if opened is None:
                    continue
                if isinstance(opened, Verdict):
                    return say(opened, [*path, step])
                outer.append(steps)
                path.append(step)
                steps = opened
                break
            else:
                if not outer:
                    return None
                steps = outer.pop()
                path.pop()

    def _is_new(self, one: Any, other: Any) -> bool:
        pair = id(one) << 64 | id(other)  # an int is smaller than a tuple of two
        if pair in self._met:
            return False
        self._met[pair] = None
        return True

    def _fresh(self, one: Any, other: Any) -> Iterator[Step]:
        self._alive += one, other
        return iter([(one, other, "")])

    def _same(self, one: Any, other: Any) -> bool | None:
        """Try; what was taken to be the same on the way is forgotten if they are not.

        None: they can't be compared.
        """
        known = len(self._met)
        found = self.difference(one, other)
        if found is None:
            return True
        while len(self._met) > known:
            self._met.popitem()
        return False if found.decided else None

    def _float(self, one: float, other: float) -> Opened:
        if struct.pack("d", one) == struct.pack("d", other):
            return None
        if self._tolerance and (
            math.isclose(one, other, rel_tol=self._tolerance)
            or (math.isnan(one) and math.isnan(other))
        ):
            return None
        return DIFFERENT

    def _complex(self, one: complex, other: complex) -> Opened:
        pairs = ((one.real, other.real), (one.imag, other.imag))
        if all(self._float(*pair) is None for pair in pairs) or (
            self._tolerance and cmath.isclose(one, other, rel_tol=self._tolerance)
        ):
            return None
        return DIFFERENT

    def _sequence(self, one: Any, other: Any) -> Opened:
        if _one_simple_kind(one, other):
            if one == other:
                return None
        elif _same_floats(one, other):
            return None
        if not self._is_new(one, other):
            return None
        steps: Iterator[Step] = zip(one, other, itertools.count())
        if len(one) != len(other):
            return itertools.chain(steps, [(len(one), len(other), ".len()")])
        return steps

    def _dict(self, one: Any, other: Any) -> Opened:
        if (
            _one_simple_kind(one, other)
            and _one_simple_kind(one.values(), other.values())
            and one == other
        ) or not self._is_new(one, other):
            return None
        return pair_members(one, other, self._same, ".keys()")

    def _set(self, one: Any, other: Any) -> Opened:
        if _one_simple_kind(one, other) and one == other:
            return None
        return pair_members(dict.fromkeys(one), dict.fromkeys(other), self._same)

    def _buffer(self, one: Any, other: Any) -> Opened:
        """A memoryview, or an array of the standard library."""
        with memoryview(one) as mine, memoryview(other) as theirs:
            if (mine.format, mine.shape) != (theirs.format, theirs.shape):
                return Verdict(
                    f"{mine.format!r} of shape {mine.shape} expected, "
                    f"got {theirs.format!r} of shape {theirs.shape}"
                )
            return None if mine.tobytes() == theirs.tobytes() else self._lists(one, other)

    def _lists(self, one: Any, other: Any) -> Iterator[Step]:
        return itertools.chain(
            self._fresh(one.tolist(), other.tolist()),
            [] if self._tolerance else [(DIFFERENT, None, "")],
        )

    def _array(self, one: Any, other: Any) -> Opened:
        opened: Opened = open_array(one, other, self._tolerance, self._fresh)
        return opened

    def _function(self, one: Any, other: Any) -> Opened:
        if not self._is_new(one, other):
            return None
        parts: list[Step] = [
            (getattr(one, name), getattr(other, name), None) for name in _OF_FUNCTIONS
        ]
        if one.__globals__ is not other.__globals__:  # one was sent by value, and came back
            used = sorted(global_names(one.__code__))
            parts += (
                (one.__globals__.get(name), other.__globals__.get(name), None) for name in used
            )
        return iter(parts)

    def _cell(self, one: Any, other: Any) -> Opened:
        contents = [_cell_contents(one), _cell_contents(other)]
        return iter([(*contents, None)]) if self._is_new(one, other) else None

    def _object(self, one: Any, other: Any) -> Opened:
        """The first of a class: which way is its?"""
        kind, open_it = type(one), self._parts
        if kind is object or issubclass(kind, (type, types.ModuleType)):
            open_it = self._identity
        elif _is_plain(kind, _Plain):
            open_it = self._attributes
        elif _is_plain(kind, tuple) and kind.__base__ is tuple:  # a named one
            open_it = self._sequence
        self._openers[kind] = open_it
        return open_it(one, other)

    def _identity(self, one: Any, other: Any) -> Opened:
        return DIFFERENT if type(one) is not object and repr(one) != repr(other) else _cannot(one)

    def _attributes(self, one: Any, other: Any) -> Opened:
        if not self._is_new(one, other):
            return None
        return iter(_attributes(one.__dict__, other.__dict__))

    def _parts(self, one: Any, other: Any) -> Opened:
        """By what pickle would take of them."""
        if not self._is_new(one, other):
            return None
        if type(one).__module__ == "itertools":  # up to 3.13 it can be pickled, with a warning
            return _cannot(one)
        try:
            mine, theirs = _reduced(one), _reduced(other)
        except Exception:
            return _cannot(one)
        if isinstance(mine, str) or isinstance(theirs, str):
            # Known by a name, which two that aren't one cannot both be.
            return _cannot(one) if (mine, repr(one)) == (theirs, repr(other)) else DIFFERENT
        self._alive += mine, theirs
        make, args, state, members, items, setter = _six(mine)
        its_make, its_args, its_state, its_members, its_items, its_setter = _six(theirs)
        steps: list[Step] = [(make, its_make, None), (setter, its_setter, None)]
        if isinstance(one, (set, frozenset)):  # its arguments list its members in some order
            steps.append((frozenset(one), frozenset(other), ""))
        else:
            steps.append((args, its_args, None))
        steps += _states(state, its_state)
        if members is not None or its_members is not None:
            steps.append((list(members or ()), list(its_members or ()), ""))
        if items is not None or its_items is not None:
            mapping, its_mapping = dict(items or ()), dict(its_items or ())
            if isinstance(one, OrderedDict):
                steps.append((list(mapping), list(its_mapping), ".keys()"))
            steps.append((mapping, its_mapping, ""))
        self._alive.append(steps)
        return iter(steps)


def _reduced(value: Any) -> Any:
    reducer = copyreg.dispatch_table.get(type(value))
    return reducer(value) if reducer is not None else value.__reduce_ex__(4)


def _six(parts: tuple[Any, ...]) -> tuple[Any, ...]:
    return parts + (None,) * (6 - len(parts))


def _states(one: Any, other: Any) -> list[Step]:
    """An object's attributes, those in slots too; or whatever else it calls its state."""
    pairs: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
    for state in (one, other):
        if state is None or isinstance(state, dict):
            pairs.append((state or {}, {}))
        elif (
            isinstance(state, tuple)
            and len(state) == 2
            and all(part is None or isinstance(part, dict) for part in state)
        ):
            pairs.append((state[0] or {}, state[1] or {}))
        else:
            return [(one, other, None)]
    (mine, my_slots), (theirs, their_slots) = pairs
    return [*_attributes(mine, theirs), *_attributes(my_slots, their_slots)]


def _attributes(one: dict[Any, Any], other: dict[Any, Any]) -> list[Step]:
    steps: list[Step] = []
    for name, value in one.items():
        found = other.get(name, ABSENT)
        if found is ABSENT:
            return [(Verdict("the attribute is expected, and missing"), None, f".{name}")]
        steps.append((value, found, f".{name}"))
    for name in other.keys() - one.keys():
        return [(Verdict("the attribute is not expected"), None, f".{name}")]
    return steps


class _Plain:
    """What a class of Python's own looks like that has nothing but attributes."""


def _is_plain(kind: type, like: type) -> bool:
    """Whether its objects hold nothing but what those of another class do."""
    found: Any = kind
    usual: Any = object
    return (
        kind.__dictoffset__ == like.__dictoffset__
        and kind.__weakrefoffset__ == like.__weakrefoffset__
        and kind.__basicsize__ == like.__basicsize__
        and kind not in copyreg.dispatch_table
        and all(
            getattr(found, name) is getattr(usual, name)
            for name in ("__reduce_ex__", "__reduce__", "__getstate__")
        )
        and (like is tuple or not hasattr(kind, "__getnewargs__"))
        and not hasattr(kind, "__getnewargs_ex__")
    )


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def _cannot(one: Any) -> Verdict:
    words = f"two {type(one).__name__} objects cannot be compared"
    if isinstance(one, types.GeneratorType):
        words += " (a list can)"
    return Verdict(words, decided=False)


def _one_simple_kind(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether all members of both are of one and the same simple type: == is then exact."""
    kinds = set(map(type, one))
    return len(kinds) == 1 and kinds <= _SIMPLE and set(map(type, other)) == kinds


def _same_floats(one: Collection[Any], other: Collection[Any]) -> bool:
    """Whether both are floats throughout, and the same to the bit."""
    return (
        len(one) == len(other)
        and set(map(type, one)) == {float} == set(map(type, other))
        and array.array("d", one).tobytes() == array.array("d", other).tobytes()
    )
