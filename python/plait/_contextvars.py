"""Context variables on their way to a worker: found there by module and name."""

from __future__ import annotations

import contextvars
import importlib
import pickle
import sys
from typing import Any

from . import _byvalue

__all__ = ["pack", "portable", "unpack"]

# Where a variable lives, None if nowhere that another process can look at. Variables are never
# collected while a context has them, and few.
_homes: dict[contextvars.ContextVar[Any], tuple[str, str] | None] = {}


def _home(variable: contextvars.ContextVar[Any]) -> tuple[str, str] | None:
    if variable not in _homes:
        _homes[variable] = None
        for module_name, module in list(sys.modules.items()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if value is variable:
                    _homes[variable] = module_name, name
                    return _homes[variable]
    return _homes[variable]


def portable(context: contextvars.Context) -> dict[contextvars.ContextVar[Any], Any]:
    """The variables that another process can find."""
    return {variable: value for variable, value in context.items() if _home(variable) is not None}


def pack(variables: dict[contextvars.ContextVar[Any], Any]) -> list[tuple[str, str, str, bytes]]:
    """Module, name there, the variable's own name, and pickled value, of those whose value can
    be pickled."""
    packed = []
    for variable, value in variables.items():
        home = _home(variable)
        try:
            data = _byvalue.dumps(value)
        except Exception:
            continue
        if home is not None:
            packed.append((*home, variable.name, data))
    return packed


def unpack(packed: list[tuple[str, str, str, bytes]]) -> contextvars.Context:
    """A context with these variables."""
    context = contextvars.copy_context()
    for module_name, name, own_name, data in packed:
        module = importlib.import_module(module_name)
        variable = getattr(module, name, None)
        if variable is None and module_name in _byvalue.MAIN_NAMES:
            variable = contextvars.ContextVar(own_name)
            setattr(module, name, variable)
        if isinstance(variable, contextvars.ContextVar):
            context.run(variable.set, pickle.loads(data))
    return context
