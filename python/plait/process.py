"""Processes on a zygote: `multiprocessing`'s interface, started in a fraction of a millisecond.

A lean interpreter, started on first use, forks the children; the user's process, with its
threads and its memory, is never forked, and its main module is never run again: functions and
classes of a script or a notebook travel by value (`plait._byvalue`). See ``src/process/`` for
the picture. Where there is no zygote (Windows, macOS) the same children are spawned.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import pickle
import sys
from multiprocessing.process import active_children, current_process, parent_process

from ._callables import NO_TARGET, check_target

TYPE_CHECKING = False  # typing is slow to import, and a child waits for it
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = [
    "Process",
    "active_children",
    "current_process",
    "get_context",
    "install",
    "parent_process",
]

_mp_process: Any = multiprocessing.process
_mp_context: Any = multiprocessing.context


def has_zygote() -> bool:
    """Whether children are forked by a zygote, which needs Linux; elsewhere, and where
    ``PLAIT_START=spawn`` asks for it, they are spawned (`plait._spawned`)."""
    return sys.platform.startswith("linux") and os.environ.get("PLAIT_START") != "spawn"


class Process(multiprocessing.process.BaseProcess):
    """A process that runs a function: `multiprocessing.Process`, and it has a `result`.

    Differences from the standard library: the target may be a lambda, a closure or a function
    of a notebook; no ``if __name__ == "__main__"`` guard is needed; `result` returns what the
    target returned; output goes to what `sys.stdout` is at `start`, a notebook's cell
    included; daemonic processes end even if their parent is killed, and may have children.

    Args:
        group: None, as in the standard library.
        target: the function to run, without parentheses: ``target=f``, not ``target=f()``.
        name: a name for messages; ``Process-1`` and so on by default.
        args: its positional arguments, a tuple.
        kwargs: its keyword arguments.
        daemon: whether it ends with its parent; by default as the current process.

    Raises:
        TypeError: the target is not callable.

    >>> import plait
    >>> p = plait.Process(target=lambda x: x * x, args=(7,))
    >>> p.start()
    >>> p.result()
    49
    >>> p.join()
    """

    _start_method = "plait"

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = NO_TARGET,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        target = check_target(target, needed=type(self).run is Process.run)
        super().__init__(group, target, name, tuple(args), dict(kwargs or {}), daemon=daemon)
        # Who makes a process is about to start it. (Not imported before the first start.)
        zygote = sys.modules.get("plait._zygote")
        ring = getattr(zygote, "ring", None)  # not there yet: another thread imports it just now
        if ring is not None:
            ring()

    @staticmethod
    def _Popen(process_obj: multiprocessing.process.BaseProcess) -> Any:
        popen: Any
        if has_zygote():
            if "plait._popen" not in sys.modules:
                from . import _zygote

                _zygote.prepare()
            from . import _popen as popen
        else:
            from . import _spawned as popen
        return popen.Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        pass  # the zygote has nothing to forget

    def start(self) -> None:
        """Starts the process.

        Returns when it exists; what can fail by its arguments has failed by then, with nothing
        started.

        Raises:
            SerializationError: the target or an argument cannot be sent; it is named.
            AssertionError: it was started before.
            OSError: a limit was met.
        """
        # As BaseProcess.start, but daemonic processes may have children.
        this: Any = self
        this._check_closed()
        assert this._popen is None, "cannot start a process twice"
        assert this._parent_pid == _mp_process.os.getpid(), (
            "can only start a process object created by current process"
        )
        _mp_process._cleanup()
        popen = self._Popen(self)
        try:
            this._popen = popen
            this._sentinel = popen.sentinel
            _mp_process._children.add(self)
        except BaseException:  # of a signal handler
            this._popen = None
            _mp_process._children.discard(self)
            popen.abandon()
            raise
        # Until now the child ends with its Popen, so that whatever a signal handler raises, it
        # either was not started or is known.
        popen.keep()
        # A target's reference to this object would otherwise be a cycle.
        del this._target, this._args, this._kwargs

    def run(self) -> Any:
        """Runs the target and returns its value; subclasses may override it."""
        this: Any = self
        if this._target:
            return this._target(*this._args, **this._kwargs)
        return None

    def result(self, timeout: float | None = None) -> Any:
        """What the target returned, waiting for it if need be; before and after `join`.

        Args:
            timeout: seconds to wait, None for as long as it takes.

        Raises:
            Exception: what the target raised; its ``__cause__`` is the child's traceback.
            WorkerDied: the process ended before its target returned: killed, or sys.exit().
            TaskTimeout: the time is over; the process goes on.
            SerializationError: the value cannot be sent back; its message says what in it.
            ValueError: the process was not started, or is closed.
        """
        this: Any = self
        this._check_closed()
        if this._popen is None:
            raise ValueError(f"{self.name} was not started; call start() first")
        assert this._parent_pid == _mp_process.os.getpid(), "can only ask a child process"
        return this._popen.result(timeout)

    def _packed(self) -> dict[str, Any] | None:
        """The state from which `_unpacked` makes this process in the child, if it can: it takes
        half as long to pickle as the object. None: the object is one of the user's making."""
        if type(self) is not Process:
            return None
        state = dict(vars(self))
        state["_config"] = config = dict(state["_config"])
        config.pop("authkey", None)  # the child has it
        return state

    @staticmethod
    def _unpacked(state: dict[str, Any]) -> Process:
        process: Any = Process.__new__(Process)
        vars(process).update(state)
        process._config["authkey"] = current_process().authkey
        return process  # type: ignore[no-any-return]

    def _run_in_child(self, report: Callable[[str, object], None], sentinel: Any) -> int:
        """Runs as the child; hands the outcome to `report`, and returns the exit code."""
        run = self.run

        def run_and_report() -> None:
            try:
                value = run()
            except SystemExit:
                raise
            except BaseException as error:
                report("raised", error)
                raise
            report("returned", value)

        self.run = run_and_report  # type: ignore[method-assign]
        return int(self._bootstrap(parent_sentinel=sentinel))  # type: ignore[attr-defined]


class PlaitContext(multiprocessing.context.BaseContext):
    """A `multiprocessing` context whose processes are plait's."""

    _name = "plait"
    Process = Process

    def set_forkserver_preload(self, module_names: list[str], *, learn: bool = False) -> None:
        """Names modules that processes have imported already when they start.

        Differences from the standard library: it can be called at any time, and again. A
        module that cannot be imported is left to who needs it; one that starts threads which
        it doesn't end for a fork is done without, after a RuntimeWarning at the next start.
        ``"__main__"`` is ignored: plait's children have its functions by value.

        Args:
            module_names: a list of names, as in an import statement.
            learn: whether modules that processes had to import are added for later ones.

        Raises:
            TypeError: it is something else.

        >>> import plait
        >>> plait.get_context().set_forkserver_preload(["json"])
        """
        names: Any = module_names
        if isinstance(names, str) or not all(type(name) is str for name in names):
            raise TypeError(f"module_names must be a list of strings, not {module_names!r}")
        if not has_zygote():
            return  # each child is an interpreter of its own, and imports what it uses
        from . import _zygote

        _zygote.preload([name for name in module_names if name != "__main__"], learn)


_context = PlaitContext()


class _Contexts(dict[str, "Any"]):
    """multiprocessing's table of contexts, in which "plait" is found but not listed."""

    def __missing__(self, name: str) -> Any:
        if name == "plait":
            return _context
        raise KeyError(name)


def get_context() -> PlaitContext:
    """The `multiprocessing` context with the start method "plait".

    Use it wherever the standard library takes a context: ``get_context().Pool()``,
    ``ProcessPoolExecutor(mp_context=plait.get_context())``, ``get_context().Queue()``.

    >>> import plait
    >>> with plait.get_context().Pool(2) as pool:
    ...     pool.map(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    return _context


def install() -> None:
    """Makes "plait" a name that `multiprocessing.set_start_method` knows.

    `multiprocessing.get_all_start_methods` is left as it is. Calling it again does nothing.

    >>> import multiprocessing, plait
    >>> plait.install()
    >>> multiprocessing.get_context("plait").get_start_method()
    'plait'
    """
    if isinstance(_mp_context._concrete_contexts, _Contexts):
        return
    import multiprocessing.spawn

    spawn: Any = multiprocessing.spawn
    _mp_context._concrete_contexts = _Contexts(_mp_context._concrete_contexts)
    original = spawn.get_preparation_data

    def get_preparation_data(name: str) -> Any:
        data = original(name)
        # Children of the stdlib's own methods don't know "plait": they have their default.
        if data.get("start_method") == "plait":
            del data["start_method"]
        return data

    spawn.get_preparation_data = get_preparation_data


class _Foreign:
    """A multiprocessing.Process that was started by plait, being the default: no result()."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def _run_in_child(self, report: Callable[[str, object], None], sentinel: Any) -> int:
        return int(self._process._bootstrap(parent_sentinel=sentinel))


def become_child(start_method: str | None, pickled: bytes | memoryview) -> Process | _Foreign:
    """In a new child: unpickles the process object that it is to run.

    The parent's default start method is the child's, until it runs, when multiprocessing makes
    it the method that it was started with.
    """
    install()
    if start_method is not None:
        multiprocessing.set_start_method(start_method, force=True)
    current: Any = current_process()
    current._inheriting = True
    try:
        process = pickle.loads(pickled)
    finally:
        del current._inheriting
    if type(process) is dict:
        return Process._unpacked(process)
    return process if isinstance(process, Process) else _Foreign(process)
