"""``__main__`` of a child: never the user's run again, but a module of its own that gets the
definitions that the parent's has as they are asked for."""

from __future__ import annotations

import operator
import pickle
import sys
import types

from . import _byvalue

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Definitions", "attributes", "become"]


# ---- in the parent -----------------------------------------------------------------------


def attributes() -> dict[str, Any]:
    """What a child's ``__main__`` has from its start."""
    main = vars(sys.modules["__main__"])
    names = ("__file__", "__doc__", "__package__")  # the last for relative imports in tasks
    return {name: main[name] for name in names if isinstance(main.get(name), str)}


class Definitions:
    """What ``__main__`` defines, pickled once and kept until a definition changes.

    Args:
        keep: gets the pickle and what it gave for the one before, or None; gives what is kept.
    """

    def __init__(self, keep: Callable[[bytes, Any], Any]) -> None:
        self._keep = keep
        self._key: tuple[list[str], list[object]] = [], []
        self._kept: Any = None
        self._watch = _Watch({}, [])

    def _is_same(self, key: tuple[list[str], list[object]]) -> bool:
        return self._key[0] == key[0] and _are_same(self._key[1], key[1])

    def kept(self) -> Any:
        """What is kept, made anew if a definition came, went or changed; None: there are none."""
        namespace = vars(sys.modules["__main__"])
        if self._watch.is_still(namespace):
            return self._kept if self._key[0] else None
        mine = [
            (name, value)
            for name, value in list(namespace.items())
            if _byvalue.is_named(value) and value.__module__ in _byvalue.MAIN_NAMES
        ]
        # By identity, and what the key holds is kept alive by it.
        parts = [part for _, value in mine for part in _byvalue.ingredients(value)]
        key = [name for name, _ in mine], [value for _, value in mine] + parts
        if mine and (not self._is_same(key) or self._kept is None):
            pickled = pickle.dumps(_byvalue.main_entries(namespace))
            self._kept = self._keep(pickled, self._kept)
        self._key = key
        self._watch = _Watch(namespace, [value for _, value in mine])
        return self._kept if mine else None


def _are_same(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(map(operator.is_, old, new))


class _Watch:
    """Tells quickly whether a namespace and what it defines are as they were: by loops in C,
    and of what changes all the time, such as a counter, it looks at the type alone."""

    def __init__(self, namespace: dict[str, Any], mine: list[Any]) -> None:
        self._namespace = namespace
        self._types = list(map(type, namespace.values()))
        members = [m for value in mine for m in _members(value)]
        self._classes = [value for value in mine if isinstance(value, type)]
        self._functions = [m for m in members if isinstance(m, types.FunctionType)]
        # A function that lives elsewhere or has a closure is looked at the slow way.
        self._is_simple = all(
            function.__globals__ is namespace and function.__closure__ is None
            for function in self._functions
        )
        used = {n for f in self._functions for n in _byvalue.global_names(f.__code__)}
        named = [n for n, value in namespace.items() if _byvalue.is_named(value)]
        self._names = [*named, *used]
        self._was = self._look()

    def _look(self) -> list[Any]:
        found = list(map(self._namespace.get, self._names))
        for attribute in ("__code__", "__defaults__"):
            found += map(operator.attrgetter(attribute), self._functions)
        for cls in self._classes:
            found += vars(cls).values()
        return found

    def is_still(self, namespace: dict[str, Any]) -> bool:
        return (
            self._is_simple
            and namespace is self._namespace
            and list(map(type, namespace.values())) == self._types
            and _are_same(self._was, self._look())
        )


def _members(value: Any) -> list[Any]:
    members = vars(value).values() if isinstance(value, type) else (value,)
    return [getattr(member, "__func__", member) for member in members]


# ---- in the child ------------------------------------------------------------------------


class _MainModule(types.ModuleType):
    """What is asked for by name and isn't there yet is fetched from the definitions."""

    def __getattr__(self, name: str) -> Any:
        entry = _entries().get(name)
        if entry is None:
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        if isinstance(entry, str):
            raise AttributeError(f"'__main__.{name}' could not be sent to this process: {entry}")
        return _byvalue.fill_in(name, entry)


_fetch: Callable[[], bytes] | None = None
_fetched: dict[str, bytes | str] = {}


def _entries() -> dict[str, bytes | str]:
    global _fetch, _fetched
    if _fetch is not None:
        fetch, _fetch = _fetch, None
        _fetched = pickle.loads(fetch())
    return _fetched


def become(attributes: dict[str, Any], fetch: Callable[[], bytes] | None) -> None:
    """Makes such a module this process's ``__main__``.

    Args:
        attributes: what `attributes` gave in the parent.
        fetch: as for `fetch_by`, if there are any.
    """
    main = _MainModule("__main__")
    main.__dict__.update(attributes, __builtins__=__builtins__, __spec__=None)
    sys.modules["__main__"] = main
    if fetch is not None:
        fetch_by(fetch)


def fetch_by(fetch: Callable[[], bytes]) -> None:
    """What gives the pickled definitions; it is called once, if they are needed."""
    global _fetch
    _fetch = fetch
