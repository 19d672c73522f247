"""The zygote of this process: started on first use, replaced when it dies or grows stale."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import sys
import threading
from multiprocessing import spawn
from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

from . import _core, _state

__all__ = ["fork", "refill"]

# Children that are kept ready: enough for a pair that is started together. Each is some 2 MB.
_SPARES = 2

# Reentrant, as a signal handler may start a process too.
_lock = threading.RLock()
_zygote: _core.Zygote | None = None
_key: tuple[object, ...] = ()
_base: _state.State = {}

# The zygote's program. sys.path comes first, so that it imports what this process would.
_PROGRAM = (
    "import sys; sys.path[:] = {path!r}; {forget}from plait._child import zygote; zygote({parent})"
)


def _start(base: _state.State) -> _core.Zygote:
    program = os.fsencode(spawn.get_executable())
    path = [entry for entry in sys.path if isinstance(entry, str)]
    flags, forget = _args_from_interpreter_flags(), ""
    if sys.flags.utf8_mode and "utf8" not in sys._xoptions:
        # On for the locale's sake, which by now may look different (PEP 538): asked for, and
        # then forgotten, since the user did not ask.
        flags, forget = [*flags, "-X", "utf8"], "sys._xoptions.pop('utf8'); "
    code = _PROGRAM.format(path=path, parent=os.getpid(), forget=forget)
    arguments = [*flags, "-c", code]
    # The environment is inherited by exec; the rest it is told.
    told = {name: value for name, value in base.items() if name != "environment"}
    return _core.Zygote(
        os.fsdecode(program), arguments, list(base["environment"].items()), pickle.dumps(told)
    )


def fork() -> tuple[_core.Child, _state.State]:
    """Forks a child that waits for its payload.

    Returns:
        It, and the state that it still has to take over.

    Raises:
        RuntimeError: the zygote can't start; OSError: a limit was met.
    """
    global _zygote, _key, _base
    now = _state.of_process()
    key = _state.exec_key(now["environment"])
    with _lock:
        if _zygote is not None and (key != _key or not _zygote.is_ours()):
            _zygote.end()
            _zygote = None
        is_new = _zygote is None
        while True:
            if _zygote is None:
                _base = _state.for_zygote(now)
                _zygote, _key = _start(_base), key
            try:
                child = _zygote.fork()
            except ConnectionResetError:
                # It was killed, perhaps long ago: another one takes its place. A child that
                # it forked for us without our knowing gets no payload and ends.
                status = _zygote.end()
                _zygote = None
                # ^C at a terminal reaches it too, before it can ignore it: that may be tried
                # again, since what it means is for the user's process to decide.
                if is_new and status != f"signal {signal.SIGINT:d}":
                    raise RuntimeError(
                        f"plait's helper process ended before it could fork ({status}); what "
                        "it printed to stderr, above, says why. It is started as "
                        f"{spawn.get_executable()!r} -c 'from plait._child import zygote'"
                    ) from None
                is_new = True
                continue
            return child, _state.difference(now, _base)


def refill() -> None:
    """Has spares made; to be called when the child that was just forked is on its way."""
    global _zygote, _key, _base
    with _lock:
        if _zygote is None or not _zygote.is_ours() or _zygote.refill(_SPARES):
            return
        # It has died. The next start need not wait for another one to come up.
        _zygote.end()
        _zygote = None
        now = _state.of_process()
        # The child that was just forked runs: what is in the way now, the next start will tell.
        with contextlib.suppress(OSError, RuntimeError):
            _base, _key = _state.for_zygote(now), _state.exec_key(now["environment"])
            _zygote = _start(_base)
            _zygote.refill(_SPARES)


def _shutdown() -> None:
    global _zygote
    if _zygote is not None:
        _zygote.end()
        _zygote = None


def _after_fork_in_child() -> None:
    # The parent's locks may be held, by a thread that isn't here: the zygote's own too.
    global _lock, _zygote
    _lock = threading.RLock()
    _zygote = None


atexit.register(_shutdown)
os.register_at_fork(after_in_child=_after_fork_in_child)
