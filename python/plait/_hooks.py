"""What a trace hangs into the standard library, and takes out again, so that starts and
submissions are known: threads, executors, pools, processes, and the steps of asyncio's tasks.

Each hook does what the original does, and notes it. Modules that are not there yet are hooked when
they are imported.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from typing import Any

from . import _tracing
from ._subprocesses import popen_begins
from ._tracing import (
    START,
    SUBMIT,
    Task,
    Tracing,
    begin_child,
    note_child,
    now,
    submitted,
)

__all__ = ["install", "remove"]

_installed: list[tuple[Any, str, Any, Any]] = []
_MISSING: Any = object()


def _hook(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace ``owner.name`` by what ``make`` makes of it."""
    original = getattr(owner, name)
    kept = vars(owner).get(name, _MISSING)
    new = make(original)
    setattr(owner, name, new)
    _installed.append((owner, name, new, kept))


def remove() -> None:
    """Take all hooks out; one that another library has wrapped since stays, and does nothing."""
    if _late in sys.meta_path:
        sys.meta_path.remove(_late)
    while _installed:
        owner, name, new, kept = _installed.pop()
        if vars(owner).get(name) is not new:
            continue
        if kept is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, kept)


def _hook_asyncio(asyncio: Any) -> None:
    _hook(asyncio.Handle, "_run", _handle_runs(asyncio.Task))
    _hook(asyncio.BaseEventLoop, "create_task", _create_task)


def _hook_plait_thread(module: Any) -> None:
    _hook(module.Thread, "start", _thread_start)
    _hook(module, "_serve", _thread_begins)


def _hook_pool(module: Any) -> None:
    _hook(module.Pool, "_map_async", _map_async)
    _hook(module.Pool, "apply_async", _apply_async)


# Modules, and what to do with each when it has been imported.
_HOOKS: dict[str, Callable[[Any], None]] = {
    "plait.thread": _hook_plait_thread,
    "concurrent.futures.thread": lambda m: _hook(m.ThreadPoolExecutor, "submit", _submit),
    "concurrent.futures.process": lambda m: _hook(m.ProcessPoolExecutor, "submit", _submit),
    "plait._thread_pool": lambda m: _hook(m.ThreadPoolExecutor, "submit", _submit),
    "multiprocessing.pool": _hook_pool,
    "multiprocessing.process": lambda m: _hook(m.BaseProcess, "start", _process_start),
    "plait.process": lambda m: _hook(m.Process, "start", _process_start),
    "multiprocessing.spawn": lambda m: _hook(m, "get_preparation_data", _preparation),
    "subprocess": lambda m: _hook(m.Popen, "__init__", popen_begins),
    "asyncio": _hook_asyncio,
    "plait._bridge": lambda m: _hook(m, "step_ready", _step_ready),
}


class _Late:
    """Among the finders of modules: hooks those that are imported while a trace is under way."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _HOOKS or _tracing.current is None:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            execute = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                _HOOKS[name](module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_late: Any = _Late()


def install(tracing: Tracing) -> None:
    """Put in the hooks, for modules that are imported later as well."""
    if _installed:  # a forked child has its parent's; they ask which tracing is current
        return
    _hook(threading.Thread, "start", _thread_start)
    _hook(threading.Thread, "_bootstrap_inner", _thread_begins)
    for name, hook in _HOOKS.items():
        if name in sys.modules:
            hook(sys.modules[name])
    sys.meta_path.insert(0, _late)
    if hasattr(os, "fork"):
        _hook(os, "fork", _fork)


def _thread_start(original: Any) -> Any:
    def start(thread: Any) -> None:
        tracing = _tracing.current
        if tracing is not None and "_plait_flow" not in vars(thread):
            flow = thread._plait_flow = tracing.flow()
            at = now()
            tracing.note(SUBMIT, at, at, flow, tracing.number(thread.name))
        original(thread)

    return start


def _thread_begins(original: Any) -> Any:
    def begin(thread: Any) -> None:
        tracing = _tracing.current
        if tracing is not None:
            flow = vars(thread).get("_plait_flow", 0)
            name = tracing.number(thread.name)
            at = now()
            tracing.note(START, at, at, flow, name)
            tracing.note(
                _tracing.IDENT, at, 0, threading.get_ident(), name, 0, threading.get_native_id()
            )
        original(thread)

    return begin


def _submit(original: Any) -> Any:
    def submit(executor: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        tracing = _tracing.current
        if tracing is not None and not isinstance(fn, Task) and callable(fn):
            fn = submitted(tracing, fn)
        return original(executor, fn, *args, **kwargs)

    return submit


def _map_async(original: Any) -> Any:
    def map_async(pool: Any, func: Any, iterable: Any, mapper: Any, *rest: Any) -> Any:
        if (tracing := _tracing.current) is not None:
            work = submitted(tracing, func)
            mapper = Task(mapper, work.flow, work.label)
        return original(pool, func, iterable, mapper, *rest)

    return map_async


def _apply_async(original: Any) -> Any:
    def apply_async(pool: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        if (tracing := _tracing.current) is not None:
            func = submitted(tracing, func)
        return original(pool, func, *args, **kwargs)

    return apply_async


def _process_start(original: Any) -> Any:
    def start(process: Any) -> None:
        tracing, began = _tracing.current, now()
        original(process)
        if tracing is not None and process.pid is not None:
            note_child(tracing, process.pid, process.name, began)

    return start


class _Begin:
    """Among what a spawned child is told first: it begins to trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        told = os.environ.get(_tracing.FOLDER, "")
        # Of a child that has no plait, nothing is asked.
        code = (
            "try:\n import plait._tracing as t\nexcept ImportError: pass\n"
            f"else: t.begin_child({told!r})"
        )
        return exec, (code,)


def _preparation(original: Any) -> Any:
    def get_preparation_data(*args: Any, **kwargs: Any) -> Any:
        data = original(*args, **kwargs)
        if _tracing.current is not None:
            data["plait_trace"] = _Begin()
        return data

    return get_preparation_data


def _fork(original: Any) -> Any:
    def fork() -> int:
        tracing = _tracing.current
        if tracing is None:
            return int(original())
        tracing.before_fork()
        try:
            pid = int(original())
        except BaseException:
            tracing.after_fork()
            raise
        if pid == 0:
            begin_child()
        else:
            tracing.after_fork()
        return pid

    return fork


def _create_task(original: Any) -> Any:
    def create_task(loop: Any, coro: Any, **kwargs: Any) -> Any:
        task = original(loop, coro, **kwargs)
        tracing = _tracing.current
        if tracing is not None and task is not None:
            number, at = tracing.meet(task), now()
            tracing.note(SUBMIT, at, at, tracing.pid << 32 | number)
        return task

    return create_task


def _handle_runs(kind: Any) -> Callable[[Any], Any]:
    def make(original: Any) -> Any:
        def _run(handle: Any) -> None:
            tracing = _tracing.current
            if tracing is not None:
                tracing.steps.run(tracing, kind, original, handle)
            else:
                original(handle)

        return _run

    return make


class _Stepping:
    """What a bridge has to call, with a note of each step of a task."""

    def __init__(self, bridge: Any, tracing: Tracing) -> None:
        self._bridge, self._tracing = bridge, tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)

    def __iter__(self) -> Any:
        from asyncio import Task as AsyncioTask

        step = self._tracing.steps.step
        for callback, context, arguments in self._bridge:
            task = getattr(callback, "__self__", None)
            if isinstance(task, AsyncioTask):
                yield step, context, (self._tracing, task, callback, arguments)
            else:
                yield callback, context, arguments


def _step_ready(original: Any) -> Any:
    def step_ready(bridge: Any, *keeper: Any) -> None:
        del keeper  # as the original does
        tracing = _tracing.current
        original(bridge if tracing is None else _Stepping(bridge, tracing), None)

    return step_ready
