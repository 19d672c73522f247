"""What a function that goes to workers is made from: is it still the one that they have?"""

from __future__ import annotations

import contextvars
import types
from collections.abc import Iterator

from . import _byvalue

__all__ = ["Survey", "survey"]

_Part = tuple[object, str | None, tuple[object, ...]]

# Values that cannot change but by being replaced, where the change is seen.
_FIXED = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    type(...),
    types.ModuleType,
    types.BuiltinFunctionType,
    contextvars.ContextVar,
)


class Survey:
    """The parts of a function that travels by value."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        # Whether there is something in it that may change in place, such as a list.
        self.is_volatile = False
        self._seen: set[int] = set()

    def look_at(self, value: object) -> None:
        """Notes the parts of a value that a part refers to."""
        if isinstance(value, _FIXED) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, (tuple, frozenset)):
            for member in value:
                self.look_at(member)
        elif isinstance(value, types.FunctionType):
            if not _byvalue.travels_by_name(value):
                self._note(_parts_of_function(value))
        elif isinstance(value, type):
            if not _byvalue.travels_by_name(value):
                self._note(_parts_of_class(value))
        elif isinstance(value, (staticmethod, classmethod)):
            self.look_at(value.__func__)
        elif isinstance(value, property):
            for function in (value.fget, value.fset, value.fdel):
                self.look_at(function)
        elif not _byvalue.travels_by_name(value):
            self.is_volatile = True

    def _note(self, parts: Iterator[_Part]) -> None:
        for part in parts:
            self.parts.append(part)
            for value in part[2]:
                self.look_at(value)


def _parts_of_function(function: types.FunctionType) -> Iterator[_Part]:
    yield function, None, (function.__defaults__, *(function.__kwdefaults__ or {}).values())
    for cell in function.__closure__ or ():
        try:
            yield cell, None, (cell.cell_contents,)
        except ValueError:  # still empty
            yield cell, None, ()
    namespace = function.__globals__
    for name in _byvalue.global_names(function.__code__):
        yield namespace, name, (namespace[name],) if name in namespace else ()


def _parts_of_class(cls: type) -> Iterator[_Part]:
    members = vars(cls)
    for name, value in members.items():
        if name not in ("__dict__", "__weakref__", "__doc__", "__annotations__"):
            yield members, name, (value,)
    for base in cls.__bases__:
        if not _byvalue.travels_by_name(base):
            yield from _parts_of_class(base)


def survey(function: object) -> Survey | None:
    """The parts of a function or class; None for what has a state of its own (a partial, a
    bound method, an object), which has to go along with each task."""
    if isinstance(function, types.BuiltinFunctionType):
        owner = function.__self__
        return Survey() if owner is None or isinstance(owner, types.ModuleType) else None
    if not isinstance(function, (types.FunctionType, type)):
        return None
    found = Survey()
    found.look_at(function)
    return found
