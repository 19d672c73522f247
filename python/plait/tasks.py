"""The tasks of the lab's workloads: the kernels' twins in pure Python, and naps.

A twin does what its Rust kernel does, operation by operation, and gives the same to the bit.
They are apart from the lab that runs them (and from pages.py, which fetches), and import only
what they need, so that a worker process that is handed one is soon ready.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

__all__ = [
    "Row",
    "count_primes_in",
    "count_words",
    "crc32_of",
    "escape_time",
    "is_prime",
    "mandelbrot_row",
    "nap",
    "nap_async",
    "nap_tokio",
]


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


class Row(NamedTuple):
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


def count_words(text: str) -> Counter[str]:
    """How often each word occurs in one text, words as `str.split` finds them.

    >>> count_words("to be or not to be")["be"]
    2
    """
    return Counter(text.split())


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


def nap(seconds: float) -> float:
    """Sleep, and give back for how long one was asked to."""
    time.sleep(seconds)
    return seconds


async def nap_async(seconds: float) -> float:
    """The same, while other coroutines go on."""
    import asyncio  # not above: most workers never need it

    await asyncio.sleep(seconds)
    return seconds


async def nap_tokio(seconds: float) -> float:
    """The same, the timer being tokio's."""
    from . import aio

    return await aio.sleep(seconds, seconds)
