"""What a trace hangs into the standard library, and takes out again, so that starts and
submissions are known: threads, executors, pools, processes, and the steps of asyncio's tasks.

Each hook does what the original does, and notes it. Modules that are not there yet when a
trace begins are imported first, but for child processes, which hook what they have.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from . import _tracing
from ._tracing import (
    _PAUSE_NS,
    START,
    STEP,
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
    while _installed:
        owner, name, new, kept = _installed.pop()
        if vars(owner).get(name) is not new:
            continue
        if kept is _MISSING:
            delattr(owner, name)
        else:
            setattr(owner, name, kept)


def install(tracing: Tracing) -> None:
    """Put in the hooks for all modules that are loaded."""
    if _installed:  # a forked child has its parent's; they ask which tracing is current
        return
    _hook(threading.Thread, "start", _thread_start)
    _hook(threading.Thread, "_bootstrap_inner", _thread_begins)
    modules = sys.modules
    if (plait_thread := modules.get("plait.thread")) is not None:
        _hook(plait_thread.Thread, "start", _thread_start)
        _hook(plait_thread, "_serve", _thread_begins)
    for name, owner in (
        ("concurrent.futures.thread", "ThreadPoolExecutor"),
        ("concurrent.futures.process", "ProcessPoolExecutor"),
        ("plait._thread_pool", "ThreadPoolExecutor"),
    ):
        if name in modules:
            _hook(getattr(modules[name], owner), "submit", _submit)
    if (pool := modules.get("multiprocessing.pool")) is not None:
        _hook(pool.Pool, "_map_async", _map_async)
        _hook(pool.Pool, "apply_async", _apply_async)
    if (process := modules.get("multiprocessing.process")) is not None:
        _hook(process.BaseProcess, "start", _process_start)
    if (plait_process := modules.get("plait.process")) is not None:
        _hook(plait_process.Process, "start", _process_start)
    if (spawn := modules.get("multiprocessing.spawn")) is not None:
        _hook(spawn, "get_preparation_data", _preparation)
    if (events := modules.get("asyncio.events")) is not None:
        _hook(events.Handle, "_run", _handle_runs)
        _hook(modules["asyncio.base_events"].BaseEventLoop, "create_task", _create_task)
    if (bridge := modules.get("plait._bridge")) is not None:
        _hook(bridge, "step_ready", _step_ready)
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
            known = tracing.meet(task)
            at = now()
            tracing.note(SUBMIT, at, at, tracing.pid << 32 | known[0])
        return task

    return create_task


def _step(tracing: Tracing, task: Any, run: Any, *args: Any) -> None:
    known = tracing.tasks.get(id(task))
    if known is None:
        known = tracing.meet(task)
    began = now()
    last = known[1]
    if last:
        if began - last > _PAUSE_NS:
            tracing.pause(task, known, began)
    else:
        tracing.first_step(task, known, began)
    try:
        run(*args)
    finally:
        ended = known[1] = now()
        tracing.note(STEP, began, ended, known[0])


def _handle_runs(original: Any) -> Any:
    from asyncio import Task as AsyncioTask

    def _run(handle: Any) -> None:
        task = getattr(handle._callback, "__self__", None)
        tracing = _tracing.current
        if tracing is not None and isinstance(task, AsyncioTask):
            _step(tracing, task, original, handle)
        else:
            original(handle)

    return _run


class _Stepping:
    """What a bridge has to call, with a note of each step of a task."""

    def __init__(self, bridge: Any, tracing: Tracing) -> None:
        self._bridge, self._tracing = bridge, tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bridge, name)

    def __iter__(self) -> Any:
        from asyncio import Task as AsyncioTask

        for callback, context, arguments in self._bridge:
            task = getattr(callback, "__self__", None)
            if isinstance(task, AsyncioTask):
                yield _step, context, (self._tracing, task, callback, *arguments)
            else:
                yield callback, context, arguments


def _step_ready(original: Any) -> Any:
    def step_ready(bridge: Any, *keeper: Any) -> None:
        del keeper  # as the original does
        tracing = _tracing.current
        original(bridge if tracing is None else _Stepping(bridge, tracing), None)

    return step_ready
