"""Has a program find `race`'s stand-ins where it looks for locks, queues and `time.sleep`.

By name, in `threading`, `queue`, plait, and wherever the program has imported them from there; and
objects that were made before, in global variables and closures of its functions and in its state.
All is as it was when `Patches` is left. Other threads of the process, which go on meanwhile, get
the real ones under all of these names.
"""

from __future__ import annotations

import _thread
import collections
import contextlib
import functools
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from inspect import getattr_static
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import plait
import plait.sync
import plait.thread

from . import race_standins
from .race_engine import player
from .race_points import Points
from .race_queues import STAND_INS
from .race_standins import makers

__all__ = ["Patches"]

_one_at_a_time = _thread.allocate_lock()

_HOMES: tuple[ModuleType, ...] = (threading, queue, plait, plait.sync)
_REALS: dict[int, tuple[str, Any]] = {}  # by address of the real class: its name, and itself
_KINDS: dict[type, str] = {}  # of which objects there may be
for _home in _HOMES:
    for _name in STAND_INS:
        if (_real := getattr(_home, _name, None)) is not None:
            _REALS[id(_real)] = (_name, _real)
for _name, _real in list(_REALS.values()):
    _KINDS[_real if isinstance(_real, type) else type(_real())] = _name


def _is_of_race() -> bool:
    return player() is not None or threading.get_ident() in makers


class _Maker(type):
    """The type of what stands under a real class's name: a class that makes what is wanted."""

    stand_in: Any
    real: Any

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if "stand_in" not in vars(cls):  # a class that was derived from it
            return super().__call__(*args, **kwargs)
        return (cls.stand_in if _is_of_race() else cls.real)(*args, **kwargs)

    def __instancecheck__(cls, one: Any) -> bool:
        if "stand_in" not in vars(cls):
            return super().__instancecheck__(one)
        reals = cls.real if isinstance(cls.real, type) else type(cls.real())
        return isinstance(one, (cls.stand_in, reals))


def _maker(name: str, real: Any) -> Any:
    names = {
        "stand_in": STAND_INS[name],
        "real": real,
        "__module__": getattr(real, "__module__", ""),
    }
    try:
        return _Maker(name, (real,), names)
    except TypeError:  # a function, or a class that is final
        return _Maker(name, (), names)


_MAKERS: dict[int, Any] = {key: _maker(*entry) for key, entry in _REALS.items()}

_real_sleep = time.sleep


def _sleep(seconds: float) -> None:
    (race_standins.sleep if _is_of_race() else _real_sleep)(seconds)


_MAKERS[id(_real_sleep)] = _sleep


def _start_of(real: Any) -> Any:
    def start(self: threading.Thread) -> None:
        if _is_of_race():
            raise RuntimeError(
                "race() decides which thread goes on, and knows those only that it was given: "
                f"{self.name!r} cannot be started within; give its target as one of `threads`"
            )
        real(self)

    return start


class _Quiet:
    """An output without what the threads of a race print."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def write(self, text: str) -> Any:
        return len(text) if _is_of_race() else self._real.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class Patches:
    """The places of a program where a stand-in belongs; a context in which they have it.

    Args:
        callables: the functions of the program.
        points: tells which modules are the program's.
        is_quiet: whether to swallow what the threads print.
    """

    def __init__(self, callables: Iterable[Any], points: Points, is_quiet: bool = True) -> None:
        self._points = points
        self._is_quiet = is_quiet
        self._undo: list[tuple[Callable[[Any], None], Any]] = []
        self._fresh: dict[int, Any] = {}
        self._classes: list[tuple[Callable[[Any], None], Any, Any]] = []
        self._places: list[tuple[Callable[[Any], None], Any]] = []
        self._adopted: list[tuple[Callable[[Any], None], Any]] = []
        self._globals: dict[int, dict[str, Any]] = {}
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # so that no address in `_seen` is used twice
        self._walked: set[int] = set()  # classes
        for one in callables:
            self._search(one)

    def __enter__(self) -> Patches:
        if race_standins.racers and race_standins.racers[0] == threading.get_ident():
            raise RuntimeError("a race within a race: run it outside of setup and invariant")
        _one_at_a_time.acquire()
        race_standins.racers.append(threading.get_ident())
        try:
            self._patch()
        except BaseException:  # ^C
            self.__exit__()
            raise
        return self

    def _patch(self) -> None:
        for home in _HOMES:
            for name in STAND_INS:
                if (real := getattr(home, name, None)) is not None:
                    self._set_attribute(home, name, _MAKERS[id(real)])
        self._set_attribute(time, "sleep", _sleep)
        for kind in (threading.Thread, plait.thread.Thread):
            self._set_attribute(kind, "start", _start_of(kind.start))
        for module in list(sys.modules.values()):
            self._find_globals(module)
        for names in self._globals.values():
            self._patch_names(names)
        self._undo += self._places
        for put, real, maker in self._classes:
            self._undo.append((put, real))
            put(maker)
        if self._is_quiet:
            for name in ("stdout", "stderr"):
                if getattr(sys, name) is not None:
                    self._set_attribute(sys, name, _Quiet(getattr(sys, name)))

    def __exit__(self, *exception: object) -> None:
        self._unadopt()
        while self._undo:
            put, value = self._undo.pop()
            put(value)
        race_standins.racers.clear()
        _one_at_a_time.release()

    def _unadopt(self) -> None:
        while self._adopted:
            put, value = self._adopted.pop()
            put(value)

    def _set_attribute(self, owner: Any, name: str, value: Any) -> None:
        self._undo.append((lambda old: setattr(owner, name, old), getattr(owner, name)))
        setattr(owner, name, value)

    def _find_globals(self, module: Any) -> None:
        file = getattr(module, "__file__", None)
        names = getattr(module, "__dict__", None)
        if type(names) is not dict or module in _HOMES or not isinstance(module, ModuleType):
            return
        if module.__name__ == "__main__" or (
            isinstance(file, str) and self._points.is_followed_file(file)
        ):
            self._globals[id(names)] = names

    def _patch_names(self, names: dict[str, Any]) -> None:
        for name, value in list(names.items()):
            if (maker := _MAKERS.get(id(value))) is not None:
                self._undo.append((_item_setter(names, name), value))
                names[name] = maker

    # ---- objects that were made before --------------------------------------------------------

    def renew(self) -> None:
        """For a new run: new stand-ins for the objects that were made before."""
        self._unadopt()
        self._fresh = {}
        for put, real in self._places:
            put(self._stand_in(real))

    def adopt(self, state: Any) -> Any:
        """Put stand-ins into the state, where `setup` has not made it itself; gives it back."""
        if _is_real(state):
            return self._stand_in(state)
        self._walked.clear()
        self._walk(state, 4)
        return state

    def _walk(self, one: Any, depth: int) -> None:
        items = _parts(one)
        kind = one if isinstance(one, type) else type(one)
        if id(kind) not in self._seen and id(kind) not in self._walked:
            self._walked.add(id(kind))
            items += self._members(kind)
        for put, value in items:
            if _is_real(value) and put is not _nowhere:
                self._adopted.append((put, value))
                put(self._stand_in(value))
            elif depth > 1 and not isinstance(value, (str, int, float, race_standins.StandIn)):
                self._walk(value, depth - 1)

    def _stand_in(self, real: Any) -> Any:
        found = self._fresh.get(id(real))
        if found is None:
            found = self._fresh[id(real)] = self._copy(real, _KINDS[type(real)])
        return found

    def _copy(self, real: Any, name: str) -> Any:
        made: Any
        if name == "Condition":
            lock = getattr(real, "_lock", None)
            return race_standins.Condition(self._stand_in(lock) if type(lock) in _KINDS else None)
        if name.endswith("Semaphore"):
            return STAND_INS[name](getattr(real, "_value", 1))  # type: ignore[call-arg]
        if name == "Barrier":
            return race_standins.Barrier(real.parties)
        if name.endswith("Queue"):
            made = STAND_INS[name]()
            made.maxsize = getattr(real, "maxsize", 0)
            if name != "SimpleQueue" and real.qsize():
                for item in list(real.queue):
                    made._push(item)
            return made
        made = STAND_INS[name]()
        if name == "Event":
            made._flag = real.is_set()
        return made

    def _search(self, one: Any) -> None:
        """Find what a function or a class refers to, directly or not: global variables, closures,
        default arguments, and the members of classes."""
        for name in ("__func__", "func", "fget", "fset", "fdel", "__wrapped__"):
            inner = getattr_static(one, name, None)
            if name == "func" and isinstance(one, (functools.partial, functools.cached_property)):
                inner = one.func
            elif name == "__wrapped__" and type(one).__module__ == "functools":
                inner = getattr(one, name, None)
            if isinstance(inner, (MemberDescriptorType, GetSetDescriptorType)):
                inner = getattr(one, name, None)
            if inner is not None and id(inner) not in self._seen:
                self._search(inner)
        if id(one) in self._seen:
            return
        self._seen.add(id(one))
        self._kept.append(one)
        if isinstance(one, functools.partial):
            for value in (*one.args, *one.keywords.values()):
                self._consider(value, _nowhere)
        if isinstance(one, type):
            for put, value in self._members(one):
                self._consider(value, put)
            return
        if not isinstance(one, FunctionType):
            if not isinstance(one, ModuleType) and callable(one):
                self._search(type(one))
            return
        for cell in one.__closure__ or ():
            with contextlib.suppress(ValueError):  # not assigned yet
                self._consider(cell.cell_contents, _cell_setter(cell))
        if not self._points.is_followed(one.__code__):
            return
        for index, value in enumerate(one.__defaults__ or ()):
            self._consider(value, _default_setter(one, index))
        for key, value in (one.__kwdefaults__ or {}).items():
            self._consider(value, _item_setter(one.__kwdefaults__, key))
        names = one.__globals__
        self._globals[id(names)] = names
        used = set(_names_of(one.__code__))
        for name in used & names.keys():
            value = names[name]
            self._consider(value, _item_setter(names, name))
            if isinstance(value, ModuleType) and self._points.is_followed_file(
                getattr(value, "__file__", None) or "<frozen"
            ):
                for inner in used & vars(value).keys():
                    self._consider(vars(value)[inner], _item_setter(vars(value), inner))

    def _members(self, kind: type) -> Iterator[tuple[Callable[[Any], None], Any]]:
        """What the program's classes that one derives from have."""
        for base in kind.__mro__[:-1]:
            if self._points.is_followed_class(base):
                for name, value in list(vars(base).items()):
                    yield _member_setter(base, name), value

    def _consider(self, value: Any, put: Callable[[Any], None], depth: int = 3) -> None:
        if (maker := _MAKERS.get(id(value))) is not None:
            if put is not _nowhere:
                self._classes.append((put, value, maker))
        elif _is_real(value):
            if put is not _nowhere:
                self._places.append((put, value))
        elif isinstance(value, (FunctionType, type, MethodType, staticmethod, classmethod)) or (
            isinstance(value, (property, functools.partial, functools.cached_property))
            or type(value).__name__ == "_lru_cache_wrapper"
        ):
            self._search(value)
        elif (depth and id(value) not in self._seen) and (
            isinstance(value, (dict, list, tuple)) or self._points.is_plain(value)
        ):
            self._seen.add(id(value))
            self._kept.append(value)
            for inner_put, inner in _parts(value):
                self._consider(inner, inner_put, depth - 1)
            self._search(type(value))


def _parts(one: Any) -> list[tuple[Callable[[Any], None], Any]]:
    """What a box or an object has, each with what puts something else in its place."""
    if isinstance(one, dict):
        return [(_item_setter(one, key), value) for key, value in list(one.items())]
    if isinstance(one, (list, collections.deque)):
        return [(_item_setter(one, index), value) for index, value in enumerate(list(one))]
    if isinstance(one, (tuple, set, frozenset)):
        return [(_nowhere, value) for value in list(one)]
    if isinstance(one, MethodType):
        return [(_nowhere, one.__self__)]
    if isinstance(one, (type, ModuleType, FunctionType)):
        return []
    parts: list[tuple[Callable[[Any], None], Any]] = []
    if type(names := getattr(one, "__dict__", None)) is dict:
        parts = [(_item_setter(names, key), value) for key, value in list(names.items())]
    for base in type(one).__mro__:
        if "__slots__" in vars(base):
            for slot in list(vars(base).values()):
                if isinstance(slot, MemberDescriptorType):
                    with contextlib.suppress(AttributeError):  # not assigned yet
                        parts.append((partial(slot.__set__, one), slot.__get__(one)))
    return parts


def _is_real(one: Any) -> bool:
    """Whether it is a primitive that could put a thread to sleep: one in Python, made within the
    race, has stand-ins inside."""
    return type(one) in _KINDS and not any(
        isinstance(inner, race_standins.StandIn) for inner in getattr(one, "__dict__", {}).values()
    )


def _names_of(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)


def _item_setter(box: Any, key: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        box[key] = value

    return put


def _member_setter(kind: type, name: str) -> Callable[[Any], None]:
    return lambda value: type.__setattr__(kind, name, value)


def _default_setter(function: FunctionType, index: int) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        before = function.__defaults__ or ()
        function.__defaults__ = (*before[:index], value, *before[index + 1 :])

    return put


def _cell_setter(cell: Any) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        cell.cell_contents = value

    return put


def _nowhere(value: Any) -> None:
    """A tuple's item stays as it is."""
