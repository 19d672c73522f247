"""
`plait._core`: private. Users import `plait`, whose Python modules carry the
documentation and the types.
"""

from _typeshed import SupportsGetItem
from typing import Any, SupportsIndex, final

__all__ = ["Zygote", "apply_attributes", "attributes_now", "count_primes", "cpu_count", "crc32", "end_with_parent", "fork_sibling", "identity", "mandelbrot", "next_request", "parent_pidfd", "pause_watch", "receive_frame", "resume_watch", "send_frame", "word_count"]

@final
class Zygote:
    """
    A zygote; see `plait._zygote`.
    """
    def __new__(cls, /, program: str, arguments: SupportsGetItem[int, str], environment: SupportsGetItem[int, tuple[SupportsGetItem[int, SupportsIndex], SupportsGetItem[int, SupportsIndex]]], state: SupportsGetItem[int, SupportsIndex]) -> Zygote: ...
    def end(self, /) -> str | None:
        """
        Ends it and says how it ended, as text.
        """
    def fork(self, /) -> tuple[int, int, int]:
        """
        Forks a child that waits for its payload: its pid, a pidfd, and the channel's end.
        """
    def is_ours(self, /) -> bool:
        """
        Whether this process started it: a forked copy of that process must not use it.
        """
    @property
    def pid(self, /) -> int | None:
        """
        Its process id, None when it was ended.
        """

def apply_attributes(words: SupportsGetItem[int, SupportsIndex]) -> None:
    """
    Puts attributes of another process in force in this one.
    """

def attributes_now() -> list[int]:
    """
    Umask, niceness, process group, limits and affinity, as numbers.
    """

def count_primes(n: SupportsIndex, workers: SupportsIndex | None = None) -> int: ...
def cpu_count() -> int: ...
def crc32(buffers: Any, workers: SupportsIndex | None = None) -> list[int]: ...

def end_with_parent(pidfd: SupportsIndex) -> None:
    """
    Ends this process as soon as the one behind `pidfd` (handed over) has ended.
    """

def fork_sibling() -> int:
    """
    In the zygote: forks a sibling. 0 in the child, its pid in the zygote; a failed fork is
    returned as minus the errno, as the parent wants to be told.
    """

def identity() -> list[int]:
    """
    Session, user and group ids: a zygote serves one identity only.
    """

def mandelbrot(width: SupportsIndex, height: SupportsIndex, max_iter: SupportsIndex, workers: SupportsIndex | None = None) -> memoryview: ...

def next_request(control: SupportsIndex, parent: SupportsIndex) -> tuple[int, int] | None:
    """
    In the zygote: waits for a request. Its kind and descriptor; `None`: the parent is gone.
    """

def parent_pidfd(expected: SupportsIndex) -> int:
    """
    A pidfd for the parent, if it still is `expected`; else ProcessLookupError.
    """

def pause_watch() -> None:
    """
    Stops watching the parent, before a fork.
    """

def receive_frame(socket: SupportsIndex, wait: bool = True) -> "tuple[bytes, list[int]] | None":
    """
    Receives a frame; `None`: the other side is gone. With `wait=False` also when nothing is
    there yet.
    """

def resume_watch() -> None:
    """
    Watches the parent again, after a fork.
    """

def send_frame(socket: SupportsIndex, bytes: bytes, fds: SupportsGetItem[int, SupportsIndex]) -> None:
    """
    Sends a frame of bytes and descriptors, waiting while the socket is full.
    """

def word_count(texts: Any, workers: SupportsIndex | None = None) -> "dict[str, int]": ...
