"""The ``plait`` command's entry point: exit codes, ^C and missing parts; the rest is commands.py.

Exit codes: 0 all went well, 1 something that was asked for did not come out, 2 it was asked for
wrongly, 130 it was interrupted.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["main"]


def main() -> None:
    """Run the command line, and exit with its code."""
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _interrupted()
    except BrokenPipeError:  # the reader, such as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _run() -> int:
    # Imported here, so that ^C meanwhile is caught, and a missing library is one line.
    try:
        from .commands import run
    except ModuleNotFoundError as error:
        print(f"plait: {error.name} is missing: pip install 'plait[lab]'", file=sys.stderr)
        return 2
    return run()


def _interrupted() -> int:
    print("plait: interrupted", file=sys.stderr, flush=True)
    if any(thread.name.startswith("plait-lab") for thread in threading.enumerate()):
        # A task that is still running in a thread would be waited for at exit.
        os._exit(130)
    return 130


if __name__ == "__main__":
    main()
