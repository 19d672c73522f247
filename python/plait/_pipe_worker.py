"""What a worker of the pool over pipes runs; its messages are `plait._pipe_pool`'s."""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import connection
from typing import Any

from . import _byvalue
from ._pipe_state import decode
from ._pool_worker import Helpers, begin

__all__ = ["main"]


def main(
    pipe: Any,
    key: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """A worker, from its start to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what ^C means
    parent = multiprocessing.process.parent_process()
    if parent is not None:
        threading.Thread(
            target=_end_with, args=(parent.sentinel,), name="plait-orphan", daemon=True
        ).start()
    worker = _Worker(pipe)
    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        if begin(worker, initializer, initargs):
            worker.serve()


def _end_with(sentinel: Any) -> None:
    connection.wait([sentinel])
    os._exit(1)


class _Undefined:
    """In place of a function that could not be unpickled."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, *args: object, **kwargs: object) -> object:
        raise self._error


class _Worker:
    """A worker's end of the pipe."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()  # a task's threads may print
        self._functions: dict[int, Callable[..., object]] = {}
        self._contexts: dict[int, Any] = {}
        self._helpers = Helpers()
        self._pid = os.getpid()
        self._holds_output = False

    def _send(self, *message: object) -> None:
        with self._lock:
            self._pipe.send(message)

    def ready(self) -> None:
        self._send("ready")

    def broken(self, reason: str) -> None:
        self._send("broken", reason)

    def output(self, stderr: bool, text: bytes) -> None:
        self._send("output", stderr, text)

    def holds_output(self) -> None:
        self._holds_output = True

    def serve(self) -> None:
        """Works until it is told to leave."""
        idle_since = time.monotonic_ns()
        while (message := self._pipe.recv()) is not None:
            # Before anything of the task's is touched: from now on a death is its own.
            self._send("begun")
            began = time.monotonic_ns()
            waited = began - idle_since
            definitions, forgotten, kind, function, context, memory, items = message
            self._learn(definitions, forgotten)
            for item in items:
                answer = self._answer(kind, function, self._contexts.get(context), memory, item)
                if self._holds_output:
                    self._holds_output = False
                    self._helpers.flush()
                now = time.monotonic_ns()
                self._send(*answer, now - began, waited)
                began, waited = now, 0
            idle_since = began

    def _learn(self, definitions: list[tuple[str, int, bytes]], forgotten: list[int]) -> None:
        for number in forgotten:
            self._functions.pop(number, None)
            self._contexts.pop(number, None)
        for kind, number, data in definitions:
            if kind == "context":
                self._contexts[number] = self._helpers.context(pickle.loads(data))
                continue
            try:
                self._functions[number] = pickle.loads(data)
            except BaseException as error:
                self._functions[number] = _Undefined(error)

    def _answer(
        self, kind: str, number: int, context: Any, memory: int, item: Any
    ) -> tuple[str, bytes, str]:
        """An item's value or exception, pickled; and an exception's traceback."""
        try:
            function, args, kwargs = decode(kind, item)
            if function is None:
                function = self._functions[number]
            value = self._helpers.call(context, memory, function, args, kwargs)
            if os.getpid() != self._pid:
                self._helpers.forked(None)
            return "value", _byvalue.dumps(value, name="result", to_sender=True), ""
        except BaseException as error:
            if os.getpid() != self._pid:
                self._helpers.forked(error)
            return "error", *self._helpers.failure(error, memory)
