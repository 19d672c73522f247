"""Reducers for objects of the standard library that pickle by name, or not at all.

A cached function or a type variable pickles as its name, which a child does not know if the
name is one of ``__main__``; a `functools.cached_property` holds a lock before Python 3.12; a
context variable is found by its module and name. The others are made anew where they arrive,
with an empty cache and a lock of their own. Structures of ctypes have descriptors in their
classes, and arrays classes without a name.
"""

from __future__ import annotations

import functools
import operator
import weakref

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["by_value", "ctypes_class", "is_named", "without_fields"]


def _cached_function(function: Any) -> Any:
    parameters = function.cache_parameters()
    return make_cached_function, (function.__wrapped__, parameters), dict(function.__dict__)


def make_cached_function(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _cached_property(value: Any) -> Any:
    state = {name: member for name, member in vars(value).items() if name != "lock"}
    return functools.cached_property, (value.func,), state


def _weak_keys(value: weakref.WeakKeyDictionary[Any, Any]) -> Any:
    return weakref.WeakKeyDictionary, (dict(value),)  # of singledispatch: its cache


def _new_type(value: Any) -> Any:
    return type(value), (value.__name__, value.__supertype__), dict(vars(value))


def _type_variable(variable: Any) -> Any:
    options = {
        "bound": variable.__bound__,
        "covariant": variable.__covariant__,
        "contravariant": variable.__contravariant__,
    }
    names = (variable.__name__, *getattr(variable, "__constraints__", ()))
    return make_type_variable, (type(variable), names, options, variable.__module__)


def make_type_variable(
    kind: Any, names: tuple[Any, ...], options: dict[str, Any], module: str
) -> Any:
    variable = kind(*names, **options)
    variable.__module__ = module
    return variable


_CachedFunction: Any = type(functools.lru_cache(abs))

_BY_VALUE: dict[Any, Any] = {
    _CachedFunction: _cached_function,
    functools.cached_property: _cached_property,
    weakref.WeakKeyDictionary: _weak_keys,
}
# Types of the typing module, by name: it need not be imported for their sake.
_OF_TYPING: dict[str, Any] = {
    "NewType": _new_type,
    "TypeVar": _type_variable,
    "ParamSpec": _type_variable,
}


def ctypes_class(cls: Any) -> Any:
    """How to get at the class of an array or a pointer, or a metaclass; None of any other."""
    if "_ctypes" not in (cls.__module__, type(cls).__module__):
        return None
    import ctypes

    for known in (ctypes.Structure, ctypes.Union):
        if cls is type(known):
            return type, (known,)
    of = getattr(cls, "_type_", None)
    if issubclass(cls, ctypes.Array) and of * cls._length_ is cls:
        return operator.mul, (of, cls._length_)
    if issubclass(cls, ctypes._Pointer) and ctypes.POINTER(of) is cls:
        return ctypes.POINTER, (of,)
    return None


def without_fields(cls: type, state: Any, setter: Any) -> Any:
    """cloudpickle's state of a class and its setter, for ctypes' structures and unions too."""
    if type(cls).__module__ != "_ctypes":
        return state, setter
    attributes, slots = state
    # Those that come of themselves when `_fields_` is assigned.
    attributes = {n: v for n, v in attributes.items() if type(v).__name__ != "CField"}
    if "_fields_" in attributes:  # last: the layout is made by then, `_pack_` counts before
        attributes["_fields_"] = attributes.pop("_fields_")
    return (setter, attributes, slots), set_fields


def set_fields(cls: type, state: Any) -> None:
    setter, attributes, slots = state
    if "_fields_" in vars(cls):  # the class was here before; these can be assigned once
        attributes = {n: value for n, value in attributes.items() if n not in _FINAL}
    setter(cls, (attributes, slots))


_FINAL = {"_fields_", "_pack_", "_anonymous_", "_align_", "_layout_"}


def _context_variable(variable: Any) -> Any:
    from . import _contextvars

    return _contextvars.reduce(variable)


def by_value(kind: type) -> Any:
    """The reducer for objects of this very type, if there is one."""
    if kind.__module__ == "typing":
        return _OF_TYPING.get(kind.__name__)
    if kind.__module__ == "_contextvars" and kind.__name__ == "ContextVar":
        return _context_variable
    return _BY_VALUE.get(kind)


def is_named(value: object) -> bool:
    """Whether pickle sends it as the name that it has in its module."""
    kind = type(value)
    return kind is _CachedFunction or (kind.__module__ == "typing" and by_value(kind) is not None)
