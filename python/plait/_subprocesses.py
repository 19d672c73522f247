"""Has the Python programs that a traced process runs by `subprocess` traced as well.

They are told by their environment: where the trace is, and a folder on ``PYTHONPATH`` whose
sitecustomize begins to trace them (`plait._traced_site`). So programs between, a shell or make,
pass it on. What ignores that environment (``python -I``, ``-E``, ``-S``) isn't traced, nor is what
is started by other means: `os.system`, `os.posix_spawn`, `os.exec`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import _tracing
from ._tracing import FOLDER, now

__all__ = ["popen_begins"]

_SITE = str(Path(__file__).resolve().parent / "_traced_site")
_PATH = "PYTHONPATH"
# Which of Popen's positional arguments, after itself, is the environment.
_ENV = 10


def _with_trace(env: Any, told: str) -> Any:
    """The environment of a child; what Popen would refuse is left to it."""
    if env is None:
        env = os.environ
    if not isinstance(env, Mapping):
        return env
    new = dict(env)
    old = new.pop(os.fsencode(_PATH), None) or new.get(_PATH)
    try:
        new[_PATH] = _SITE + os.pathsep + os.fsdecode(old) if old else _SITE
    except TypeError:
        return env
    new[FOLDER] = told
    return new


def _label(args: Any) -> str:
    """What to call the child."""
    try:
        if isinstance(args, (str, bytes, os.PathLike)):
            return os.fsdecode(args)
        first, *rest = map(os.fsdecode, args)
    except (TypeError, ValueError):
        return "subprocess"
    return " ".join([os.path.basename(first), *rest])


def popen_begins(original: Any) -> Any:
    """The hook of ``subprocess.Popen.__init__``."""

    @functools.wraps(original)
    def begin(popen: Any, *args: Any, **kwargs: Any) -> None:
        tracing = _tracing.current
        if tracing is None:
            original(popen, *args, **kwargs)
            return
        if len(args) > _ENV:
            env = _with_trace(args[_ENV], tracing.told)
            args = (*args[:_ENV], env, *args[_ENV + 1 :])
        else:
            kwargs["env"] = _with_trace(kwargs.get("env"), tracing.told)
        began = now()
        original(popen, *args, **kwargs)
        label = _label(args[0] if args else kwargs.get("args"))
        _tracing.note_child(tracing, popen.pid, label, began)

    return begin
