"""Goes through the motions of starts while nobody waits for them, in the zygote and its spares.

What is done for the first time takes long; and in a spare, memory that is shared with the zygote
is copied on the first write, a page at a time.
"""

from __future__ import annotations

import marshal
import multiprocessing.context
import multiprocessing.process
import multiprocessing.util
import os
import pickle
import socket
import sys
import types

from . import _byvalue, _child, _core
from . import process as _process

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from typing import Any

__all__ = ["rehearse", "rehearse_worker", "skim"]

_util: Any = multiprocessing.util

# What they start: a process, and a pool's worker.
_script = b""
_worker_script = b""
_worker_task: _core.Rehearsal | None = None

# What a user's script might send: the names that it uses are modules and values.
_PLAY = """
def play(connection, *args, scale=1.5, **options):
    time.monotonic()
    connection.fileno()
    return values, nested(1)
values = {"a": [1, 2.5], "b": (None, True), "c": b"bytes"}
def nested(x):
    return x
"""


def _write_scripts() -> None:
    global _script, _worker_script, _worker_task
    import time

    from . import _rings

    main = types.ModuleType("__main__")
    exec(_PLAY, vars(main))
    vars(main)["time"] = time
    before, sys.modules["__main__"] = sys.modules["__main__"], main
    try:
        reader, writer = multiprocessing.connection.Pipe(duplex=False)
        with reader, writer:
            arguments = writer, 1, "text", [1, 2], {"key": 0.5}
            _script = _packed(vars(main)["play"], arguments)
        ends = _rings.KIND.ends(0, 0, 0)
        _worker_script = _packed(_rings.KIND.main, (ends, 0, None, ()))
        _worker_task = _core.Rehearsal(vars(main)["nested"], (1,))
    finally:
        sys.modules["__main__"] = before


def _packed(target: Any, args: tuple[Any, ...]) -> bytes:
    popen: Any = _Parcel()
    multiprocessing.context.set_spawning_popen(popen)
    try:
        return _byvalue.dumps(_process.Process(target=target, args=args)._packed())
    finally:
        multiprocessing.context.set_spawning_popen(None)


def _frame(script: bytes) -> bytes:
    head = marshal.dumps(("", False, 0, 0, 0, None, None, None, b""))
    return len(head).to_bytes(4, "little") + head + script


def rehearse() -> None:
    """Goes through the motions of a start, while nobody waits for it: what is done for the
    first time takes long. In a spare, memory that is shared with the zygote is copied on the
    first write, a page at a time."""
    if not _script:
        _write_scripts()
    reader, writer = os.pipe()
    _perform(writer)
    os.close(writer)
    os.close(reader)
    _perform(0)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        _core.send_frame(ours.fileno(), _frame(_script), [0])
        told: Any = _core.await_frame(theirs.fileno(), 0, 1, True)
        os.close(told[1][0])
        _child.send_outcome(theirs.fileno(), "returned", None)
        ours.recv(100)


def rehearse_worker(sentinel: int | None) -> None:
    """The same for a pool's worker; `sentinel` is its parent's pidfd. None: there is to be no
    thread that watches it, which the zygote must not have."""
    # A process has its large arrays made in one arena, which must be that of its real pool.
    if _worker_task is not None and "numpy" not in sys.modules:
        from . import _pool_worker

        files = _worker_task.files()
        _pool_worker.rehearse(lambda: _perform(0, _worker_script, files, sentinel))


def _perform(
    output: int,
    script: bytes | None = None,
    fds: tuple[int, ...] | None = None,
    sentinel: int | None = 0,
) -> None:
    """Plays a start. Files and pipes for output differ in what the streams find out."""
    main, current = sys.modules["__main__"], multiprocessing.process.current_process()
    try:
        given = (os.dup(output),) if fds is None else fds
        frame = _frame(_script if script is None else script)
        _child.run(0, sentinel, frame, [os.dup(output), *given], rehearsal=True)
    finally:
        _util._exiting = False
        _byvalue.inherited_fds = []
        multiprocessing.process._current_process = current  # type: ignore[attr-defined]
        multiprocessing.process._parent_process = None  # type: ignore[attr-defined]
        sys.modules["__main__"] = main
        os.dup2(0, 1)
        os.dup2(0, 2)


def skim() -> None:
    """The longest part of a start once more, since its parent is about to ask for it: by now
    it has left the processor's caches."""
    current: Any = multiprocessing.process.current_process()
    _byvalue.inherited_fds = [-1, os.dup(0)]
    current._inheriting = True
    pickle.loads(_script)
    del current._inheriting


class _Parcel:
    """Stands for the parent's side of a start, which sends a stream first of all."""

    DupFd = _byvalue.DupFd

    def __init__(self) -> None:
        self._sent = 0

    def duplicate_for_child(self, fd: int) -> int:
        self._sent += 1
        return self._sent
