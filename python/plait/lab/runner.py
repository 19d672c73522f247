"""A process of its own for a model: it may crash or hang there, and leaves nothing behind.

The runner is the leader of a process group, in which its workers are, and is killed with all of
it. It looks like a program's first process to what runs in it: tasks that ask for
`multiprocessing.parent_process` are told what they would be told without the lab.
"""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import Pipe
from typing import Any

from .. import _byvalue
from ..process import Process, has_zygote
from .group import kill_group
from .same import Difference, first_difference
from .scratch import Scratch
from .sessions import Job, Session, TimedOut
from .turns import Guard, Turn, say, take_turn

__all__ = ["Crashed", "Failed", "Runner"]

_PATIENCE_S = 2.0  # for a runner to end by itself when it was asked to
_SOCKET_PATH = 104  # bytes that every system has for a Unix socket's path


class Crashed(Exception):
    """The runner has ended before it answered."""


class Failed(Exception):
    """A turn failed there; the message is its error's line."""


class Runner:
    """Takes turns in another process.

    Args:
        open_session: makes the model's session; sent by name or value.
        job: what to run.
        workers: on how many.
    """

    def __init__(self, open_session: Callable[[Job, int], Session], job: Job, workers: int) -> None:
        self._scratch = Scratch("plait-lab-")  # it may be killed before it removes anything
        job = replace(job, folder=self._scratch.path)
        self._ours, theirs = Pipe()
        with theirs:
            self._process = Process(
                target=serve,
                args=(theirs, open_session, job, workers),
                name="plait-lab-runner",
                daemon=True,
            )
            try:
                self._process.start()
            except BaseException:
                self._ours.close()
                self._scratch.remove()
                raise
        self._ended = False

    def take_turn(
        self, timeout: float, *, dispatch: bool = False
    ) -> tuple[Turn, Difference | None]:
        """A turn there.

        Returns:
            The turn, with results if it is the first, and else how its results differ from the
            first one's; None if they don't.

        Raises:
            Failed: an exception was raised there.
            Crashed: the process ended.
            TimedOut: it took longer than `timeout` seconds.
        """
        try:
            self._ours.send(dispatch)
            if not self._ours.poll(timeout):
                raise TimedOut
            pickled: bytes = self._ours.recv_bytes()
        except (EOFError, ConnectionError, BrokenPipeError):
            raise Crashed(self._how_it_ended()) from None
        answer: Any = pickle.loads(pickled)
        if isinstance(answer, str):
            raise Failed(answer)
        turn, difference = answer
        return turn, difference

    def _how_it_ended(self) -> str:
        self._process.join(_PATIENCE_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"crashed its interpreter: {signal.Signals(-code).name}"
        return f"ended its interpreter, with exit code {code}"

    def close(self, at_once: bool = False) -> None:
        """End it, and whatever it has started."""
        if self._ended:
            return
        self._ended = True
        try:
            self._end(at_once)
        finally:
            self._scratch.remove()

    def _end(self, at_once: bool) -> None:
        pid = self._process.pid
        if pid is None:  # ^C came before it was started, and 0 would be our own group
            self._ours.close()
            return
        if not at_once:
            with contextlib.suppress(OSError):
                self._ours.send(None)
                self._ours.poll(_PATIENCE_S)
            self._ours.close()
            deadline = time.monotonic() + _PATIENCE_S
            while not _has_ended(pid) and time.monotonic() < deadline:
                time.sleep(0.002)
        kill_group(pid)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()


def _has_ended(pid: int) -> bool:
    """Whether a child is a zombie, which it stays."""
    try:
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except (ChildProcessError, AttributeError):
        return True
    return found is not None


def serve(connection: Any, open_session: Any, job: Job, workers: int) -> None:
    """Run in the runner: a turn each time that one is asked for, until it is told to end."""
    _look_like_a_first_process()
    _keep_sockets_in(job.folder)
    first: Turn | None = None
    guard = Guard(job.items) if job.guarded else None
    while True:
        try:
            dispatch = connection.recv()
        except EOFError:
            return
        if dispatch is None:
            with contextlib.suppress(OSError):
                connection.send(None)
            return
        answer: tuple[Turn, Difference | None] | str
        try:
            turn = take_turn(
                open_session,
                job,
                workers,
                guard=guard if first is None else None,
                dispatch=dispatch,
            )
            difference: Difference | None = None
            if first is None:
                first = turn
            else:
                difference = first_difference(first.results, turn.results, tolerance=job.tolerance)
                turn = replace(turn, results=None, value=None)  # they were sent already
            pickled = _byvalue.dumps((turn, difference), name="results", to_sender=True)
        except BaseException as error:
            answer = say(error)
            pickled = pickle.dumps(answer)
        connection.send_bytes(pickled)


def _look_like_a_first_process() -> None:
    if has_zygote():
        os.setpgid(0, 0)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # the tracebacks of what crashes here are told as reasons
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as it runs
    process: Any = multiprocessing.process
    process._parent_process = None
    process._current_process._config["daemon"] = False
    process._current_process._name = "MainProcess"
    # Workers that are spawned must not run the user's program again.
    main: Any = sys.modules["__main__"]
    main.__spec__ = None
    vars(main).pop("__file__", None)


def _keep_sockets_in(folder: str | None) -> None:
    """Have multiprocessing put its sockets, as its fork server's, where whoever kills this process
    removes them; its own folder would stay."""
    if folder is not None and len(os.fsencode(folder)) + len("/sock-12345678") < _SOCKET_PATH:
        process: Any = multiprocessing.process
        process._current_process._config["tempdir"] = folder
