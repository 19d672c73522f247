"""What a child process takes over from its parent, beside the target and its arguments.

`of_process` is read in the parent at start(); what differs from the state that the zygote was
started with is sent along, and `apply` puts it in force in the child. The zygote gets the
whole of it once, so the usual difference is empty.
"""

from __future__ import annotations

import os
import sys
import warnings

from . import _core

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["State", "apply", "difference", "exec_key", "of_interpreter", "of_process"]

State = dict[str, "Any"]

# Read by the C library or the interpreter when a program starts: a child that should see a
# change of these needs a zygote that was started with it.
_READ_AT_EXEC = ("LD_", "PYTHON", "MALLOC_", "GLIBC_TUNABLES", "LC_", "LANG")


def _environment() -> dict[Any, Any]:
    data = getattr(os.environ, "_data", None)
    if data is None:  # a plain dict in its place, as tests do
        return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    return data.copy()  # type: ignore[no-any-return]


# Since 3.14 they may be those of the current context (catch_warnings) alone.
_warning_filters: Any = getattr(warnings, "_get_filters", lambda: warnings.filters)


def of_process() -> State:
    """The state of this process, now."""
    return {
        "environment": _environment(),
        "attributes": _core.attributes_now(),
        **of_interpreter(),
    }


def of_interpreter() -> State:
    """That part of it which a process that is spawned does not get from the system."""
    return {
        "path": list(sys.path),
        "argv": list(getattr(sys, "argv", [""])),
        "filters": list(_warning_filters()),
        "recursion_limit": sys.getrecursionlimit(),
    }


def difference(now: State, base: State) -> State:
    """The entries of `now` that are not the same in `base`."""
    return {name: value for name, value in now.items() if base.get(name) != value}


def for_zygote(now: State) -> State:
    """What of a state the zygote itself can take over: no objects of the user's, which its
    interpreter may be unable to import. Children get the rest."""
    simple = (str, int, type(None))
    told = dict(now)
    if not all(isinstance(part, str) for name in ("path", "argv") for part in now[name]):
        del told["path"], told["argv"]
    for _, message, category, module, _ in now["filters"]:
        patterns = (getattr(part, "pattern", part) for part in (message, module))
        if category.__module__ != "builtins" or not all(isinstance(p, simple) for p in patterns):
            told.pop("filters", None)
    return told


def exec_key(environment: dict[bytes, bytes]) -> tuple[object, ...]:
    """What a zygote cannot change after it has started: who it is, how it was exec'ed."""
    prefixes = tuple(prefix.encode() for prefix in _READ_AT_EXEC)
    read = sorted(item for item in environment.items() if item[0].startswith(prefixes))
    return (*_core.identity(), tuple(sys.warnoptions), *read)


def apply(state: State) -> None:
    """Makes this process's state the one given, as far as it is given."""
    if "environment" in state:
        _apply_environment(state["environment"])
    if "path" in state:
        sys.path[:] = state["path"]
        sys.path_importer_cache.clear()
    if "argv" in state:
        sys.argv[:] = state["argv"]
    if "filters" in state:
        warnings.resetwarnings()  # which also tells the interpreter that they changed
        warnings.filters[:] = state["filters"]  # type: ignore[index]
    if "recursion_limit" in state:
        sys.setrecursionlimit(state["recursion_limit"])
    if "attributes" in state:
        _core.apply_attributes(state["attributes"])


def _apply_environment(wanted: dict[bytes, bytes]) -> None:
    is_now = _environment()
    for name in is_now.keys() - wanted.keys():
        del os.environ[os.fsdecode(name)]
    for name, value in wanted.items():
        if is_now.get(name) != value:
            os.environ[os.fsdecode(name)] = os.fsdecode(value)
    if is_now.get(b"TZ") != wanted.get(b"TZ"):
        import time

        time.tzset()
