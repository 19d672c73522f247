"""What a child process takes over from its parent, beside the target and its arguments.

`of_process` is read in the parent at start(). The zygote is told the whole of it once, and
again before it makes spares when it has changed; what differs from what a child has already is
sent along, and `apply` puts it in force there. So the usual difference is empty.
"""

from __future__ import annotations

import os
import sys
import warnings

from . import _core

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "State",
    "apply",
    "difference",
    "exec_key",
    "for_zygote",
    "of_interpreter",
    "of_process",
    "open_directory",
    "sendable",
]

State = dict[str, "Any"]

# Read by the C library or the interpreter when a program starts: a child that should see a
# change of these needs a zygote that was started with it.
_READ_AT_EXEC = tuple(
    prefix.encode() for prefix in ("LD_", "PYTHON", "MALLOC_", "GLIBC_TUNABLES", "LC_", "LANG")
)


def _environment() -> dict[Any, Any]:
    data = getattr(os.environ, "_data", None)
    if data is None:  # a plain dict in its place, as tests do
        return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
    return data.copy()  # type: ignore[no-any-return]


# Since 3.14 they may be those of the current context (catch_warnings) alone.
_warning_filters: Any = getattr(warnings, "_get_filters", lambda: warnings.filters)


def of_process() -> State:
    """The state of this process, now: what is cheap to compare, not yet what is sent."""
    identity, attributes, directory = _core.surroundings()
    return {
        "identity": identity,
        "environment": _environment(),
        "warnoptions": sys.warnoptions.copy(),
        "directory": directory,
        "attributes": attributes,
        **_of_interpreter(),
    }


def _of_interpreter() -> State:
    return {
        "path": sys.path.copy(),
        "argv": list(getattr(sys, "argv", [""])),
        "filters": list(_warning_filters()),
        "recursion_limit": sys.getrecursionlimit(),
    }


def of_interpreter() -> State:
    """What a process that is spawned does not get from the system, to be sent."""
    return sendable(_of_interpreter())


def difference(now: State, base: State) -> State:
    """The entries of `now` that are not the same in `base`."""
    return {name: value for name, value in now.items() if base.get(name) != value}


def for_zygote(now: State) -> State:
    """What of a state the zygote itself can take over: no objects of the user's, which its
    interpreter may be unable to import. Children get the rest."""
    told = dict(now)
    if not all(isinstance(part, str) for name in ("path", "argv") for part in now[name]):
        del told["path"], told["argv"]
    if any(isinstance(category, type) for _, _, category, _, _ in sendable(now)["filters"]):
        del told["filters"]
    return told


def open_directory() -> int | None:
    """The current directory, to be sent along. It may be gone, or forbidden: then a child stays
    where the zygote is."""
    try:
        return os.open(".", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None


def exec_key(now: State) -> tuple[object, ...]:
    """What a zygote cannot change after it has started: who it is, how it was exec'ed."""
    read = sorted(item for item in now["environment"].items() if item[0].startswith(_READ_AT_EXEC))
    return now["identity"], now["warnoptions"], read


# ---- warnings filters --------------------------------------------------------------------


class _Later(type):
    """A class of a module that this process need not import: it stands for that class once
    the module is there. Until then no warning can be of it.

    Filters that a package has set in the parent name the package's own classes; a child that
    imported them all would take a second to start where that is NumPy's or SciPy's.
    """

    module: str
    name: str

    def __subclasscheck__(cls, category: type) -> bool:
        value: Any = sys.modules.get(cls.module)
        for part in cls.name.split("."):
            value = getattr(value, part, None)
        return isinstance(value, type) and issubclass(category, value)


_later: dict[tuple[str, str], _Later] = {}


def _pack_filter(entry: Any) -> Any:
    action, message, category, module, line = entry
    name: Any
    if isinstance(category, _Later):
        name = category.module, category.name
    elif category.__module__ == "builtins":
        name = "builtins", category.__name__
    else:
        home = sys.modules.get(category.__module__)
        value: Any = home
        for part in category.__qualname__.split("."):
            value = getattr(value, part, None)
        # By value if no import would find it: of __main__, or made by a function.
        by_name = value is category and getattr(home, "__spec__", None) is not None
        by_name = by_name and category.__module__ not in ("__main__", "__mp_main__")
        name = (category.__module__, category.__qualname__) if by_name else category
    return action, message, name, module, line


def _unpack_filter(entry: Any) -> Any:
    action, message, name, module, line = entry
    if isinstance(name, tuple):
        category: Any = sys.modules.get(name[0])
        for part in name[1].split("."):
            category = getattr(category, part, None)
        if category is None:
            category = _later.get(name)
            if category is None:
                category = _later[name] = _Later(name[1], (), {})
                category.module, category.name = name
    else:
        category = name
    return action, message, category, module, line


# ---- in the child ------------------------------------------------------------------------


def sendable(state: State) -> State:
    """The state as it travels."""
    if "filters" in state:
        state = {**state, "filters": [_pack_filter(entry) for entry in state["filters"]]}
    return state


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
        warnings.filters[:] = [_unpack_filter(entry) for entry in state["filters"]]  # type: ignore[index]
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
