"""What a command line or a notebook's magic asks to be compared: a workload, or one's own code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .workloads import WORKLOADS

__all__ = ["find_items", "find_what"]


def find_what(text: str) -> tuple[str | Callable[[Any], Any], dict[str, Any]]:
    """A workload's name, or a function of a script or module, and the names around it.

    Args:
        text: ``primes``, ``path/to/script.py:function`` or ``package.module:function``.

    Raises:
        ValueError: it is none of these; the message says what is wrong.
    """
    if ":" not in text:
        if text in WORKLOADS:
            return text, {}
        known = ", ".join(WORKLOADS)
        hint = "; for a function of your own: script.py:function"
        raise ValueError(f"no workload is called {text!r}; there are: {known}{hint}")
    place, _, name = text.rpartition(":")
    module = _import(place)
    found: Any = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ValueError(f"{place} has no {name!r}") from None
    if not callable(found):
        raise ValueError(f"{text} is not callable: it is {type(found).__name__}")
    return found, vars(module)


def _import(place: str) -> Any:
    """A script as the module that workers will import it as, or a module by its name."""
    name = place
    if place.endswith(".py"):
        path = Path(place).absolute()
        if not path.is_file():
            raise ValueError(f"there is no file {place}")
        name = path.stem
        if not name.isidentifier():
            raise ValueError(f"{path.name} cannot be imported: rename it to a Python name")
        sys.path.insert(0, str(path.parent))
    else:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.split(".")[0] == error.name.split(".")[0]:
            raise ValueError(f"there is no module {name}") from None
        raise ValueError(f"{place} needs {error.name}, which is not installed") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit: a script that isn't meant to be imported
        raise ValueError(f"{place} cannot be imported: {error!r}") from None
    if place.endswith(".py") and Path(getattr(module, "__file__", None) or "") != path:
        raise ValueError(f"{place} has the name of another module, {module!r}: rename it")
    return module


def find_items(text: str, names: dict[str, Any]) -> list[Any]:
    """The items that a command line asks for.

    Args:
        text: a Python expression (``range(100)``, ``[1, 2]``, a name in the script), which may be
            called if it is a function; or ``@path``: the lines of a file.
        names: what the expression may refer to.

    Raises:
        ValueError: it cannot be evaluated, or gives nothing to iterate over.
    """
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read the items from {text[1:]}: {error}") from None
    try:
        value = eval(text, dict(names))  # the user's own words, on the user's own machine
        if callable(value):
            value = value()
        return list(value)
    except Exception as error:
        raise ValueError(f"--items {text!r} gives no items: {error!r}") from None
