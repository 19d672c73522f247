"""Context variables on their way to a worker: found there by module and name."""

from __future__ import annotations

import contextvars
import importlib
import pickle
import sys
from typing import Any

from . import _byvalue

__all__ = ["pack", "portable", "reduce", "unpack", "variable"]

# Where a variable lives, None if nowhere that another process can look at. Variables are never
# collected while a context has them, and few.
_homes: dict[contextvars.ContextVar[Any], tuple[str, str] | None] = {}


def _home(wanted: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    if wanted not in _homes:
        _homes[wanted] = None
        for module_name, module in list(sys.modules.items()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if value is wanted:
                    _homes[wanted] = module_name, name
                    return _homes[wanted]
    return _homes[wanted]


def portable(context: contextvars.Context) -> dict[contextvars.ContextVar[Any], Any]:
    """The variables that another process can find."""
    return {one: value for one, value in context.items() if _home(one) is not None}


def pack(variables: dict[contextvars.ContextVar[Any], Any]) -> list[tuple[str, str, str, bytes]]:
    """Module, name there, the variable's own name, and pickled value, of those whose value can
    be pickled."""
    packed = []
    events = sys.modules.get("asyncio.events")
    for one, value in variables.items():
        home = _home(one)
        if events is not None and isinstance(value, events.AbstractEventLoop):
            continue  # before its pickling failed, its sockets would have been copied, to stay
        try:
            data = _byvalue.dumps(value)
        except Exception:
            continue
        if home is not None:
            packed.append((*home, one.name, data))
    return packed


def unpack(packed: list[tuple[str, str, str, bytes]]) -> contextvars.Context:
    """A context with these variables."""
    context = contextvars.copy_context()
    for module_name, name, own_name, data in packed:
        found = variable(module_name, name, own_name, ())
        if isinstance(found, contextvars.ContextVar):
            context.run(found.set, pickle.loads(data))
    return context


def reduce(value: contextvars.ContextVar[Any]) -> Any:
    """For pickle: how another process gets at the same variable."""
    home = _home(value)
    if home is None:
        raise TypeError("cannot send a ContextVar that no module has as a global")
    try:
        default: tuple[Any, ...] = (contextvars.Context().run(value.get),)
    except LookupError:  # it has none
        default = ()
    return variable, (*home, value.name, default)


def variable(module_name: str, name: str, own_name: str, default: tuple[Any, ...]) -> Any:
    """A module's variable; one of ``__main__``, which is never run again, is made if need be."""
    module = importlib.import_module(module_name)
    found = vars(module).get(name)
    if found is None and module_name in _byvalue.MAIN_NAMES:
        options = {"default": default[0]} if default else {}
        found = contextvars.ContextVar(own_name, **options)
        setattr(module, name, found)
    return found
