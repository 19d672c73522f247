"""Finding the member that cannot be pickled, once pickling has failed."""

from __future__ import annotations

import threading
import types
from concurrent.futures import Executor
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any

from .errors import SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Deep enough for real structures; a search that goes deeper would not help a reader.
_DEPTH = 12
_MEMBERS = 1000

_ADVICE = "Make it inside the function that runs there, or pass what it is made from."
# What multiprocessing says of its locks and queues, which travel at a start alone.
_INHERITED = "through inheritance"
_AT_START = "Pass it in a Process's args, or in a pool's initargs to its initializer."


def explain(obj: object, name: str, error: Exception, to_sender: bool) -> SerializationError:
    """An error that names the innermost member of `obj` that does not pickle."""
    path, culprit, cause, function = _descend(obj, name, error, to_sender)
    path = path.removeprefix("process._")  # of a Process: its target, or args[...]
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
    where = ""
    if function is not None:
        code = function.__code__
        where = f", which {function.__qualname__} uses ({code.co_filename}:{code.co_firstlineno})"
    if _is_of_this_process(culprit):
        cause = TypeError("it belongs to this process")
    advice = _AT_START if _INHERITED in str(cause) else _ADVICE
    message = (
        f"cannot send {path} to another process: {kind} {_short(culprit)}{where}: {cause}. {advice}"
    )
    return SerializationError(message, path=path)


def _is_of_this_process(value: object) -> bool:
    return isinstance(value, (threading.Thread, BaseProcess, Executor))


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        return "(its repr() fails)"
    return text if len(text) <= 60 else text[:57] + "..."


def _failure(value: object, to_sender: bool) -> Exception | None:
    from ._byvalue import _attempt

    try:
        _attempt(value, to_sender, cloudpickle=True)
    except Exception as error:
        return error
    return None


def _descend(
    value: Any, name: str, error: Exception, to_sender: bool
) -> tuple[str, Any, Exception, types.FunctionType | None]:
    path = name
    function: types.FunctionType | None = None
    seen = {id(value)}
    for _ in range(_DEPTH):
        # What such an object is made of tells its user nothing.
        is_inner = path != name and _is_of_this_process(value)
        if is_inner or type(value).__module__.startswith("multiprocessing."):
            break
        for step, member in _members(value):
            if id(member) in seen:
                continue
            failure = _failure(member, to_sender)
            if failure is not None:
                if isinstance(value, types.FunctionType):
                    function = value
                seen.add(id(member))
                value, path, error = member, path + step, failure
                break
        else:
            break
    return path, value, error, function


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    """The members of a value with how each is reached, as Python source."""
    from ._byvalue import global_names

    if isinstance(value, dict):
        for key, member in list(value.items())[:_MEMBERS]:
            yield f"[{_short(key)}]", member
            yield f" key {_short(key)}", key
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, member in enumerate(list(value)[:_MEMBERS]):
            yield f"[{index}]", member
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        for name in sorted(global_names(value.__code__)):
            if name in value.__globals__:
                yield f".__globals__[{name!r}]", value.__globals__[name]
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            try:
                yield f".__closure__[{name!r}]", cell.cell_contents
            except ValueError:
                continue  # an empty cell
        yield ".__defaults__", value.__defaults__
    elif isinstance(value, type):
        for name, member in list(vars(value).items()):
            if not isinstance(member, types.GetSetDescriptorType):  # of the class's own making
                yield f".{name}", member
    elif hasattr(value, "__dict__"):
        for name, member in list(vars(value).items())[:_MEMBERS]:
            yield f".{name}", member
