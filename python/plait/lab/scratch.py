"""Folders for what processes of the lab tell each other, gone also when their owner was killed.

Who makes one removes those whose owners are no more. An owner holds a lock on a file in its
folder, which the kernel lets go of as it dies; a folder of another container's, where process
ids mean something else, is locked all the same.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import weakref
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["Scratch"]

_LOCK = ".owner"


class Scratch:
    """A folder that this process removes, at its end at the latest.

    Args:
        prefix: what its name begins with.
        within: where to make it; None: where temporary files are.
    """

    def __init__(self, prefix: str, within: str | None = None) -> None:
        if within is None:
            _sweep(prefix)
        self.path = tempfile.mkdtemp(prefix=prefix, dir=within)
        lock = _locked(Path(self.path, _LOCK), os.O_CREAT)
        self.remove = weakref.finalize(self, _remove, self.path, lock, os.getpid())


def _remove(path: str, lock: int | None, owner: int) -> None:
    if owner != os.getpid():  # a copy that was forked
        return
    shutil.rmtree(path, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _sweep(prefix: str) -> None:
    """Removes the folders of this name that nobody owns any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        lock = _locked(folder / _LOCK)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked(file: Path, flags: int = 0) -> int | None:
    """The descriptor of a file that this process has locked; None if another has, or there is no
    such file, as where a folder was just made."""
    if sys.platform == "win32":  # what a killed process has left stays
        return None
    with contextlib.suppress(OSError):  # also another user's
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
    return None
