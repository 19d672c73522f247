"""What the lab runs: each workload is one task, mapped over real items.

Every model gets the same items. The tasks are pure Python, written as the Rust kernels are,
operation by operation, so that both give the same result to the bit: what differs is then the
language and the model, not the method.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import kernels

__all__ = ["Workload", "find_workload", "workloads"]

Items = Sequence[Any]


@dataclass(frozen=True)
class Workload:
    """One kind of work, in each form that a model can run.

    Attributes:
        name: what ``compare`` and the command line call it.
        description: one sentence for the report's head.
        kind: what it mostly does: ``"cpu"`` or ``"io"``.
        items: gives the input as a context manager, so that a server may live beside it.
        task: the pure-Python task, called with one item.
        combine: makes one result of the tasks' results, in the items' order.
        native: the same in Rust, ``native(items, workers)``, giving what ``combine`` gives.
        coroutine: the task as an ``async def`` of the standard library.
        tokio: the task as an ``async def`` over plait's own runtime.
        workers: the default number of workers, or of items in flight; None: one a core.
    """

    name: str
    description: str
    kind: Literal["cpu", "io"]
    items: Callable[[], AbstractContextManager[Items]]
    task: Callable[[Any], Any]
    combine: Callable[[list[Any]], Any] = list
    native: Callable[[Items, int], Any] | None = None
    coroutine: Callable[[Any], Awaitable[Any]] | None = None
    tokio: Callable[[Any], Awaitable[Any]] | None = None
    workers: int | None = None


# --- primes ---------------------------------------------------------------------------------

PRIMES_BELOW = 800_000
PRIMES_BLOCK = 8_000


def is_prime(n: int) -> bool:
    """Whether ``n`` is a prime, by trial division with odd numbers, as the kernel does it.

    >>> [n for n in range(20) if is_prime(n)]
    [2, 3, 5, 7, 11, 13, 17, 19]
    """
    if n < 4:
        return n >= 2
    if n % 2 == 0:
        return False
    divisor = 3
    while divisor * divisor <= n:
        if n % divisor == 0:
            return False
        divisor += 2
    return True


def count_primes_in(block: tuple[int, int]) -> int:
    """How many primes are in ``range(*block)``.

    >>> count_primes_in((10, 20))
    4
    """
    return sum(map(is_prime, range(*block)))


def prime_blocks(below: int, block: int) -> list[tuple[int, int]]:
    """Cuts ``range(below)`` into (start, stop) of ``block`` numbers each.

    >>> prime_blocks(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    return [(start, min(start + block, below)) for start in range(0, below, block)]


def _count_primes_native(blocks: Items, workers: int) -> int:
    return kernels.count_primes(blocks[-1][1] if blocks else 0, workers)


# --- mandelbrot -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One row of an image of the Mandelbrot set."""

    row: int
    width: int
    height: int
    max_iter: int


def escape_time(x0: float, y0: float, max_iter: int) -> int:
    """Steps until the point leaves the circle of radius 2, at most ``max_iter``.

    >>> escape_time(0.0, 0.0, 50), escape_time(-2.0, -1.5, 50)
    (50, 1)
    """
    x = y = 0.0
    for step in range(max_iter):
        xx, yy = x * x, y * y
        if xx + yy > 4.0:
            return step
        y = 2.0 * x * y + y0
        x = xx - yy + x0
    return max_iter


def mandelbrot_row(row: Row) -> list[int]:
    """The escape times of one row, from left to right.

    >>> mandelbrot_row(Row(row=2, width=6, height=4, max_iter=50))[4]
    50
    """
    y0 = -1.5 + 3.0 * row.row / row.height
    return [
        escape_time(-2.0 + 3.0 * column / row.width, y0, row.max_iter)
        for column in range(row.width)
    ]


def mandelbrot_rows(width: int, height: int, max_iter: int) -> list[Row]:
    """One item a row, from top to bottom."""
    return [Row(row, width, height, max_iter) for row in range(height)]


def _mandelbrot_native(rows: Items, workers: int) -> memoryview:
    first: Row = rows[0]
    return kernels.mandelbrot(first.width, first.height, first.max_iter, workers)


# --- words and checksums of real files ------------------------------------------------------


def library_files(share: int = 1) -> list[bytes]:
    """The contents of the running Python's own standard library's ``.py`` files.

    They are read once, before anything is timed: the comparison is of the work on them.

    Args:
        share: take one of every ``share`` files, in the order of their paths.

    Returns:
        One bytes object a file; installed packages are left out.

    >>> len(library_files(share=400)) > 0
    True
    """
    root = Path(contextlib.__file__).parent
    paths = sorted(
        path for path in root.rglob("*.py") if "site-packages" not in path.relative_to(root).parts
    )
    return [path.read_bytes() for path in paths[::share]]


def library_texts() -> list[str]:
    """The same files as text; bytes that are not UTF-8 (a few test files) become U+FFFD."""
    return [content.decode("utf-8", errors="replace") for content in library_files()]


def count_words(text: str) -> Counter[str]:
    """How often each word occurs in one text, words as `str.split` finds them.

    >>> count_words("to be or not to be")["be"]
    2
    """
    return Counter(text.split())


def add_counts(counts: list[Counter[str]]) -> dict[str, int]:
    """All counts together. A plain loop: ``Counter.update`` is no faster here.

    >>> add_counts([Counter("ab"), Counter("b")])
    {'a': 1, 'b': 2}
    """
    total: dict[str, int] = {}
    for count in counts:
        for word, n in count.items():
            total[word] = total.get(word, 0) + n
    return total


def _crc_table() -> tuple[int, ...]:
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = (entry >> 1) ^ (0xEDB88320 if entry & 1 else 0)
        table.append(entry)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32_of(content: bytes) -> int:
    """The CRC-32 of some bytes, by the usual table, in pure Python.

    In earnest one calls `zlib.crc32`, which is C and gives the same; it would leave nothing
    of Python to compare.

    >>> crc32_of(b"123456789")
    3421780262
    """
    table, crc = _CRC_TABLE, 0xFFFFFFFF
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


# --- sleep ----------------------------------------------------------------------------------


def nap(seconds: float) -> float:
    """Sleep, and give back for how long one was asked to."""
    time.sleep(seconds)
    return seconds


async def nap_async(seconds: float) -> float:
    """The same, while other coroutines go on."""
    import asyncio  # not above: worker processes import this module

    await asyncio.sleep(seconds)
    return seconds


# --- the list -------------------------------------------------------------------------------


def _given(make: Callable[[], Items]) -> Callable[[], AbstractContextManager[Items]]:
    @contextlib.contextmanager
    def items() -> Iterator[Items]:
        yield make()

    return items


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            "primes",
            f"count the primes below {PRIMES_BELOW:,} by trial division, "
            f"{PRIMES_BLOCK:,} numbers a task",
            "cpu",
            _given(lambda: prime_blocks(PRIMES_BELOW, PRIMES_BLOCK)),
            count_primes_in,
            combine=sum,
            native=_count_primes_native,
        ),
        Workload(
            "mandelbrot",
            "escape times of the Mandelbrot set, 480 x 360 points, at most 300 steps, a row a task",
            "cpu",
            _given(lambda: mandelbrot_rows(480, 360, 300)),
            mandelbrot_row,
            native=_mandelbrot_native,
        ),
        Workload(
            "wordcount",
            "count the words of every file of Python's own standard library, a file a task",
            "cpu",
            _given(library_texts),
            count_words,
            combine=add_counts,
            native=lambda texts, workers: kernels.word_count(texts, workers),
        ),
        Workload(
            "checksum",
            "CRC-32 of every other file of Python's own standard library, a file a task",
            "cpu",
            _given(lambda: library_files(share=2)),
            crc32_of,
            native=lambda contents, workers: kernels.crc32(contents, workers),
        ),
        Workload(
            "sleep",
            "64 naps of 15 ms: nothing but waiting",
            "io",
            _given(lambda: [0.015] * 64),
            nap,
            coroutine=nap_async,
            workers=8,
        ),
    )
}


def workloads() -> dict[str, Workload]:
    """The workloads that ``compare`` knows by name.

    Returns:
        A new dict from name to `Workload`, in the order in which they are listed.

    >>> from plait.lab import workloads
    >>> workloads()["primes"].kind
    'cpu'
    """
    return dict(WORKLOADS)


def find_workload(name: str) -> Workload:
    """The workload of that name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    try:
        return WORKLOADS[name]
    except KeyError:
        known = ", ".join(WORKLOADS)
        raise ValueError(f"no workload is called {name!r}; there are: {known}") from None
