"""What the standard library's functions do outside of the program's objects, for `race`.

All files count as one place: which one a path leads to is not known before it is opened. Functions
that leave the process, or whose results differ from run to run, prove nothing.
"""

from __future__ import annotations

import ast
import io
from collections.abc import Sequence
from typing import Any

__all__ = ["FILES", "file_access", "is_file", "outside"]


class _Files:
    """Stands for all that is in files and folders."""


FILES = _Files()

_HOMES = frozenset(
    [
        *("posix", "nt", "os", "genericpath", "posixpath", "ntpath", "shutil", "pathlib"),
        *("io", "_io", "tempfile", "glob", "fileinput", "linecache"),
    ]
)
_READ = frozenset(
    [
        *("exists", "lexists", "isfile", "isdir", "islink", "is_file", "is_dir", "is_symlink"),
        *("stat", "lstat", "listdir", "scandir", "walk", "iterdir", "glob", "iglob", "rglob"),
        *("getsize", "getmtime", "getctime", "getatime", "access", "readlink", "realpath"),
        *("resolve", "samefile", "read_text", "read_bytes", "which", "disk_usage", "getline"),
    ]
)
_WRITE = frozenset(
    [
        *("mkdir", "makedirs", "rmdir", "removedirs", "remove", "unlink", "rename", "renames"),
        *("replace", "touch", "write_text", "write_bytes", "symlink", "symlink_to", "link"),
        *("hardlink_to", "truncate", "ftruncate", "write", "writev", "pwrite", "read", "chmod"),
        *("chown", "utime", "copy", "copy2", "copyfile", "copytree", "copymode", "copystat"),
        *("move", "rmtree", "make_archive", "unpack_archive", "mkstemp", "mkdtemp", "mkfifo"),
        *("NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "lockf", "close", "lseek"),
    ]
)
# Of what is not known: `replace` and the like are methods of others as well.
_ONLY_OF_PATHS = (_READ | _WRITE) - frozenset(
    ["replace", "copy", "read", "write", "truncate", "link", "move", "remove", "close", "access"]
)
_OUTSIDE = frozenset(
    [
        *(
            "subprocess",
            "multiprocessing",
            "sqlite3",
            "_sqlite3",
            "socket",
            "_socket",
            "ssl",
            "urllib",
            "http",
        ),
        *("ftplib", "smtplib", "imaplib", "poplib", "dbm", "shelve", "mmap", "fcntl"),
    ]
)
_DIFFERENT = frozenset(["random", "_random", "secrets", "uuid"])


def _home(called: Any) -> str:
    module = getattr(called, "__module__", None)
    if not isinstance(module, str) or module == "builtins":
        module = type(getattr(called, "__self__", None)).__module__
    return module.partition(".")[0]


def _opens_to_read(arguments: Sequence[ast.expr]) -> bool:
    modes = [one for one in arguments[1:] if isinstance(one, ast.Constant)]
    return len(modes) == len(arguments[1:]) and not any(
        isinstance(one.value, str) and set(one.value) & set("wax+") for one in modes
    )


def file_access(called: Any, name: str, arguments: Sequence[ast.expr]) -> bool | None:
    """Whether a call changes files (True), looks at them (False), or neither (None).

    Args:
        called: the function or the method's object; None: nothing is known of it but its name.
        name: its name.
        arguments: what it is called with.
    """
    if called is None:
        return None if name not in _ONLY_OF_PATHS else name in _WRITE
    if called is not open and _home(called) not in _HOMES:
        return None
    if name == "open":
        return not _opens_to_read(arguments)
    return True if name in _WRITE else False if name in _READ else None


def is_file(one: Any) -> bool:
    """Whether it is an open file."""
    return isinstance(one, io.IOBase) and not isinstance(one, (io.StringIO, io.BytesIO))


def outside(called: Any) -> str:
    """Why nothing is proved of what calls this; empty: no reason."""
    home = _home(called)
    if home in _OUTSIDE:
        return "what it does outside of the program is not looked into"
    return "what it gives differs from run to run" if home in _DIFFERENT else ""
