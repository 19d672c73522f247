"""What the lab runs: each workload is one task, mapped over real items.

Every model gets the same items. The tasks (plait.tasks) are pure Python, written as the Rust
kernels are, operation by operation, so that both give the same result to the bit: what differs
is then the language and the model, not the method.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .. import kernels
from ..pages import fetch, fetch_async, fetch_tokio
from ..tasks import (
    Row,
    count_primes_in,
    count_words,
    crc32_of,
    mandelbrot_row,
    nap,
    nap_async,
    nap_tokio,
)
from .crawl import serve_pages

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

PRIMES_BELOW = 700_000
PRIMES_BLOCK = 7_000


def prime_blocks(below: int, block: int) -> list[tuple[int, int]]:
    """Cuts ``range(below)`` into (start, stop) of ``block`` numbers each.

    >>> prime_blocks(10, 4)
    [(0, 4), (4, 8), (8, 10)]
    """
    return [(start, min(start + block, below)) for start in range(0, below, block)]


def _count_primes_native(blocks: Items, workers: int) -> int:
    return kernels.count_primes(blocks[-1][1] if blocks else 0, workers)


# --- mandelbrot -----------------------------------------------------------------------------


def mandelbrot_rows(width: int, height: int, max_iter: int) -> list[Row]:
    """One item a row, from top to bottom."""
    return [Row(row, width, height, max_iter) for row in range(height)]


def _mandelbrot_native(rows: Items, workers: int) -> memoryview:
    first: Row = rows[0]
    return kernels.mandelbrot(first.width, first.height, first.max_iter, workers)


# --- words and checksums of real files ------------------------------------------------------


def library_files(share: int = 1) -> list[bytes]:
    """The contents of the running Python's own standard library's ``.py`` files.

    They are read once, before anything is timed: the comparison is of the work on them. (3.11
    has 1,790 files, 32 MB.)

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


def library_texts(share: int = 1) -> list[str]:
    """The same files as text; bytes that are not UTF-8 (a few test files) become U+FFFD."""
    return [content.decode("utf-8", errors="replace") for content in library_files(share)]


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
            "count the words of each file of Python's own standard library, a file a task",
            "cpu",
            _given(lambda: library_texts()),
            count_words,
            combine=add_counts,
            native=lambda texts, workers: kernels.word_count(texts, workers),
        ),
        Workload(
            "checksum",
            "CRC-32 of each file of Python's own standard library, a file a task",
            "cpu",
            _given(lambda: library_files()),
            crc32_of,
            native=lambda contents, workers: kernels.crc32(contents, workers),
        ),
        Workload(
            "crawl",
            "fetch the pages of Python's own language help from a server on this machine that "
            "takes its time (seeded, 4 ms on average), and verify each",
            "io",
            serve_pages,
            fetch,
            coroutine=fetch_async,
            tokio=fetch_tokio,
            workers=8,
        ),
        Workload(
            "sleep",
            "64 naps of 15 ms: nothing but waiting",
            "io",
            _given(lambda: [0.015] * 64),
            nap,
            coroutine=nap_async,
            tokio=nap_tokio,
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
