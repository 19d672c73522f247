"""The zygote of this process: started on first use, replaced when it dies or grows stale."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import sys
import threading
import warnings

from . import _core, _state

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

__all__ = ["launch", "preload", "prepare", "refill", "ring"]

# Reentrant, as a signal handler may start a process too.
_lock = threading.RLock()
_zygote: _core.Zygote | None = None
# One that was started before the state that its children are to have was known, and with which.
_early: tuple[_core.Zygote, _state.State] | None = None
_key: tuple[object, ...] = ()
# What the zygote was told, by number: a spare has what had been told when it was asked for.
_told: dict[int, _state.State] = {}
_latest = 0
# More than there are spares at a time; the state of a child that is older is sent whole.
_REMEMBERED = 32
# Modules that the zygote imports ahead, and what is to be said of them at the next start.
_ahead: tuple[str, ...] = ()
_learn = False
_complaints: list[str] = []
# Exit codes from here on name the module that made a zygote useless, by its number.
_SPOILT = 64

# The state at the last start, until the zygote is told or turns out to know it.
_now: _state.State | None = None

# The zygote's program. sys.path comes first, so that it imports what this process would. Garbage
# is collected later, when nobody waits.
_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path[:] = {path!r}; {forget}"
    "from plait._zygote_loop import zygote; zygote({parent})"
)


def _executable() -> str:
    spawn: Any = sys.modules.get("multiprocessing.spawn")  # by which another one can be set
    path = sys.executable if spawn is None else spawn.get_executable()
    return os.fsdecode(path or "")  # None: it isn't known, as in a program with Python inside


# Those of sys.flags that an interpreter is started with, beside what -W and -X leave elsewhere.
_FLAGS = (
    "debug",
    "optimize",
    "dont_write_bytecode",
    "no_user_site",
    "no_site",
    "ignore_environment",
    "verbose",
    "bytes_warning",
    "quiet",
    "isolated",
    "dev_mode",
    "safe_path",
)


def _flags() -> list[str]:
    """The options that this interpreter was started with."""
    if any(getattr(sys.flags, name) for name in _FLAGS) or sys.warnoptions or sys._xoptions:
        # It takes 2 ms to import, which usually would be for an empty list.
        from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

        return list(_args_from_interpreter_flags())
    return []


def _exec(now: _state.State) -> _core.Zygote:
    path = [entry for entry in sys.path if isinstance(entry, str)]
    flags, forget = _flags(), ""
    if sys.flags.utf8_mode and "utf8" not in sys._xoptions:
        # On for the locale's sake, which by now may look different (PEP 538): asked for, and
        # then forgotten, since the user did not ask.
        flags, forget = [*flags, "-X", "utf8"], "sys._xoptions.pop('utf8'); "
    code = _PROGRAM.format(path=path, parent=os.getpid(), forget=forget)
    arguments = [*flags, "-c", code]
    return _core.Zygote(_executable(), arguments, list(now["environment"].items()))


def prepare() -> None:
    """Has the first zygote started, which takes longest, while this process still imports what
    else it needs for a start."""
    global _early
    with _lock:
        if _zygote is None and _early is None:
            now = _state.of_process()
            # What is in the way will be told when it is needed.
            with contextlib.suppress(OSError, RuntimeError):
                _early = _exec(now), now


def _start(now: _state.State) -> _core.Zygote:
    global _early, _key
    _key = _state.exec_key(now)
    (zygote, then), _early = _early or (None, now), None
    if zygote is not None and _state.exec_key(then) != _key:
        zygote.end()
        zygote, then = None, now
    if zygote is None:
        zygote = _exec(now)
    _told.clear()
    try:
        # The environment is inherited by exec.
        is_inherited = then["environment"] == now["environment"]
        _tell(zygote, now, but="environment" if is_inherited else "")
    except ConnectionResetError:
        pass  # as will be seen when it is to fork
    except BaseException:
        zygote.end()
        raise
    return zygote


def _tell(zygote: _core.Zygote, now: _state.State, but: str = "") -> None:
    """Has children of `zygote` start with this state from now on."""
    global _latest
    base = _state.for_zygote(now)
    news = _state.difference(base, _told.get(_latest, {}))
    news.pop(but, None)
    directory = _state.open_directory() if "directory" in news else None
    try:
        data = pickle.dumps(_state.sendable(news))
        number = zygote.tell(data, [] if directory is None else [directory])
    finally:
        if directory is not None:
            os.close(directory)
    # What is too much for the zygote is still unknown to it, or as it was told before.
    _told[number] = {**_told.get(_latest, {}), **base} if _told else base
    _latest = number
    while len(_told) > _REMEMBERED:
        del _told[next(iter(_told))]


def ring() -> None:
    """Wakes a spare: a process is about to be started."""
    if _zygote is not None:
        _zygote.ring()


def launch(now: _state.State, head: Any, body: bytes, fds: list[int]) -> _core.Child:
    """Starts a child.

    Args:
        now: the state that it is to have.
        head: is called with what of that state it lacks, and gives the payload's first part;
            it may add to `fds`.
        body: the rest of the payload.
        fds: descriptors that go along.

    Raises:
        RuntimeError: the zygote can't start; OSError: a limit was met.
    """
    global _zygote, _now
    with _lock:
        while _complaints:
            warnings.warn(_complaints.pop(), RuntimeWarning, stacklevel=6)
        now["preload"], now["learn"] = _ahead, _learn
        # Their workers are rehearsed, too.
        now["pools"] = "plait._pool" in sys.modules
        if _zygote is not None and (_is_stale(now) or not _zygote.is_ours()):
            _zygote.end()
            _zygote = None
        is_new, doubted = _zygote is None, False
        while True:
            if _zygote is None:
                _zygote = _start(now)
            try:
                child = _from_spares(_zygote, now, head, body, fds)
                if child is None:
                    first = head(_state.difference(now, _told.get(_latest, {})))
                    child = _zygote.fork(first, body, fds)
            except ConnectionResetError:
                # It was killed, perhaps long ago: another one takes its place. A child that
                # it forked for us without our knowing gets no payload and ends.
                status = _zygote.end()
                _zygote = None
                # ^C may reach it before it can ignore it: that may be tried again, since
                # what it means is for the user's process to decide.
                blamed = _blame(status)
                now["preload"], now["learn"] = _ahead, _learn
                interrupted = status == f"signal {signal.SIGINT:d}"
                if status == "exit code 1" and not doubted:  # as of ^C while it imports site
                    interrupted = doubted = True
                if is_new and not blamed and not interrupted:
                    raise RuntimeError(
                        f"plait's helper process ended before it could fork ({status}); what "
                        "it printed to stderr, above, says why. It is started as "
                        f"{_executable()!r} -c 'from plait._zygote_loop import zygote'"
                    ) from None
                is_new = True
                continue
            _now = now
            return child


def _blame(status: str | None) -> bool:
    """Does without a module that, imported ahead, made the zygote end so."""
    global _ahead, _learn
    code = int(status.removeprefix("exit code ")) if status and status[0] == "e" else 0
    if code == _SPOILT - 1:
        _learn = False
        _complaints.append(
            "a module that child processes import starts threads, and does not end them for a "
            "fork: plait has stopped to import ahead what it learns of"
        )
        return True
    if not _SPOILT <= code < _SPOILT + len(_ahead):
        return False
    name = _ahead[code - _SPOILT]
    _ahead = tuple(other for other in _ahead if other != name)
    _complaints.append(
        f"{name} starts threads when it is imported, and does not end them for a fork: plait "
        "cannot import it ahead for child processes; set_forkserver_preload() without it"
    )
    return True


def preload(names: list[str], learn: bool) -> None:
    """Has these modules imported in the zygote, so that children have them."""
    global _ahead, _learn
    with _lock:
        _ahead, _learn = tuple(dict.fromkeys(names)), learn
        if _zygote is None or not _zygote.is_ours():
            return  # it will be told when it is started
        with contextlib.suppress(ConnectionResetError):  # it has died: as above
            _tell(_zygote, {**_told.get(_latest, {}), "preload": _ahead, "learn": learn})
            _zygote.drop_spares()  # which lack them
            _zygote.refill()


def _is_stale(now: _state.State) -> bool:
    """Whether children need a new zygote, as this one cannot become what they are to be."""
    told = _told.get(_latest, {})
    same = all(now[name] == told.get(name) for name in ("identity", "environment", "warnoptions"))
    return not same and _state.exec_key(now) != _key


def _from_spares(
    zygote: _core.Zygote, now: _state.State, head: Any, body: bytes, fds: list[int]
) -> _core.Child | None:
    while (child := zygote.take()) is not None:
        try:
            first = head(_state.difference(now, _told.get(child.generation, {})))
            child.send(first, body, fds)
        except (BrokenPipeError, ConnectionResetError):
            child.close()  # it was killed, or has just given up waiting: it ran nothing
        except BaseException:
            child.close()
            raise
        else:
            return child
    return None


def refill(*, only_if_out: bool = False) -> None:
    """Has spares made that are missing; to be called when nobody is in a hurry."""
    global _zygote, _now
    if _now is None or (only_if_out and _zygote and not _zygote.is_out_of_spares()):
        return
    with _lock:
        now, _now = _now, None
        if now is None or _zygote is None or not _zygote.is_ours():
            return
        try:
            _ask_for_spares(_zygote, now)
        except ConnectionResetError:
            # It has died. The next start need not wait for another one to come up.
            _blame(_zygote.end())
            now["preload"], now["learn"] = _ahead, _learn
            _zygote = None
            # The child that was just started runs: what is in the way now, the next start
            # will tell.
            with contextlib.suppress(OSError, RuntimeError):
                _zygote = _start(now)
                _zygote.refill()
        except OSError:
            pass  # no descriptors left, for instance: as above


def _ask_for_spares(zygote: _core.Zygote, now: _state.State) -> None:
    if zygote.missing():
        if _state.difference(_state.for_zygote(now), _told.get(_latest, {})):
            _tell(zygote, now)
        zygote.refill()


def _shutdown() -> None:
    global _early, _zygote
    if _early is not None:
        _early[0].end()
        _early = None
    if _zygote is not None:
        _zygote.end()
        _zygote = None


def _after_fork_in_child() -> None:
    # The parent's locks may be held, by a thread that isn't here: the zygote's own too.
    global _early, _lock, _zygote
    _lock = threading.RLock()
    _early = _zygote = None


atexit.register(_shutdown)
os.register_at_fork(after_in_child=_after_fork_in_child)
