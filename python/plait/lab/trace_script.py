"""Runs a script, unchanged, under a trace: ``plait trace script.py``."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

from .trace import Trace, trace

__all__ = ["trace_script"]


def trace_script(
    script: str | os.PathLike[str],
    args: Sequence[str] = (),
    *,
    hz: float = 1000,
    records: int = 131_072,
) -> tuple[Trace, int]:
    """Run a script as ``python script args…`` does, and trace it with its child processes.

    Those are the children of `multiprocessing`, `concurrent.futures` and plait, forked ones, and
    what `subprocess` runs, also by way of a shell, if it is a Python that has this plait. Programs
    that are no Python aren't traced, nor ``python -I``, ``-E`` or ``-S``, nor what `os.system`,
    `os.posix_spawn` or `os.exec` start.

    It runs in this process, as ``__main__``; so a script that ends by `os._exit`, or is killed,
    takes the trace with it.

    Args:
        script: a Python file.
        args: its arguments.
        hz: as for `trace`.
        records: as for `trace`.

    Returns:
        The trace, and the script's exit code: 130 if it was interrupted, 1 if it failed (its
        traceback is on stderr).

    Raises:
        OSError: there is no such file.
        ValueError: an argument is out of range.
        SyntaxError: it is no Python.
    """
    path = Path(script)
    with io.open_code(str(path)) as file:
        code = compile(file.read(), str(path), "exec", dont_inherit=True)
    main = types.ModuleType("__main__")
    main.__file__ = str(path)
    vars(main)["__builtins__"] = vars(sys)["modules"]["builtins"]
    # It stays there: threads and exit handlers that the script leaves refer to it.
    sys.modules["__main__"] = main
    sys.argv = [str(path), *args]
    sys.path[:1] = [str(path.absolute().parent)]
    traced = trace(hz, records=records).start()
    pid = os.getpid()
    try:
        result = _run(code, main)
        # What the script's exit would wait for.
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
    except KeyboardInterrupt:
        result = 130
    finally:
        traced.stop()
    if os.getpid() != pid:  # a child that the script forked, and let go on
        sys.stdout.flush()
        os._exit(result)
    return traced, result


def _run(code: types.CodeType, main: types.ModuleType) -> int:
    try:
        exec(code, vars(main))
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException as error:
        # As python prints it, without the frame above.
        below = error.__traceback__.tb_next if error.__traceback__ is not None else None
        sys.excepthook(type(error), error.with_traceback(below), below)
        return 1
    return 0


@contextlib.contextmanager
def output_to_stderr() -> Iterator[None]:
    """What is printed meanwhile, by children too, goes to stderr, so that stdout is the
    caller's own."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
