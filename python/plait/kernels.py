"""Native kernels on rayon: Rust loops that run on all cores with the GIL released.

Each releases the GIL for its whole run, may be called from any thread, ends soon after ^C,
and takes ``workers``: the number of threads, by default one a core that this process may
use. Each has a twin in pure Python (`plait.tasks`) with the same result to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["count_primes", "cpu_count", "crc32", "mandelbrot", "word_count"]


def cpu_count() -> int:
    """How many cores this process may use.

    Unlike `os.cpu_count`, which tells how many the machine has, this honours the affinity
    mask and the quotas of control groups, so a container that was given two cores gets 2. A
    change of the affinity shows at once, one of a quota within a second.

    Returns:
        The number of cores, at least 1.

    >>> import plait
    >>> plait.cpu_count() >= 1
    True
    """
    return _core.cpu_count()


def count_primes(n: int, workers: int | None = None) -> int:
    """Count the primes below ``n`` by trial division.

    Args:
        n: the limit, itself not counted; 0 to 2**63 - 1.
        workers: the number of threads, at least 1; by default `cpu_count()`.

    Returns:
        The number of primes ``p`` with ``p < n``.

    Raises:
        ValueError: ``n`` is negative or ``workers`` is below 1.

    >>> from plait.kernels import count_primes
    >>> count_primes(100)
    25
    """
    return _core.count_primes(n, workers)


def mandelbrot(width: int, height: int, max_iter: int, workers: int | None = None) -> memoryview:
    """Compute the escape times of the Mandelbrot set over x in [-2, 1), y in [-1.5, 1.5).

    Args:
        width: pixels a row, at least 1.
        height: rows, at least 1.
        max_iter: steps after which a point counts as inside; 0 to 2**32 - 1.
        workers: the number of threads, at least 1; by default `cpu_count()`.

    Returns:
        A read-only memoryview of shape ``(height, width)``, format ``"I"`` (uint32): for each
        pixel the steps until ``|z| > 2``, at most ``max_iter``. ``numpy.asarray`` takes it
        without a copy; ``tolist()`` gives nested lists.

    Raises:
        ValueError: an argument is out of its range.
        MemoryError: the image does not fit.

    >>> from plait.kernels import mandelbrot
    >>> image = mandelbrot(6, 4, 50)
    >>> image.shape, image[2, 4]
    ((4, 6), 50)
    """
    return _core.mandelbrot(width, height, max_iter, workers)


def word_count(texts: Iterable[str], workers: int | None = None) -> dict[str, int]:
    """Count how often each word occurs in all texts together, words as `str.split` finds them.

    The same as ``dict(Counter(word for text in texts for word in text.split()))``; the order
    of the keys is not defined.

    Args:
        texts: any iterable of str (not one str).
        workers: the number of threads, at least 1; by default `cpu_count()`.

    Returns:
        A dict from word to its number of occurrences.

    Raises:
        TypeError: ``texts`` is a str, or an item is not one; the message has its index.
        UnicodeEncodeError: a text holds a lone surrogate, which has no UTF-8.
        ValueError: ``workers`` is below 1.

    >>> from plait.kernels import word_count
    >>> sorted(word_count(["to be or", "not to be"]).items())
    [('be', 2), ('not', 1), ('or', 1), ('to', 2)]
    """
    return _core.word_count(texts, workers)


def crc32(buffers: Iterable[Buffer], workers: int | None = None) -> list[int]:
    """Compute the CRC-32 of each buffer, as `zlib.crc32` does.

    Args:
        buffers: an iterable of bytes-like objects; each must be contiguous. No copy is made.
        workers: the number of threads, at least 1; by default `cpu_count()`.

    Returns:
        The checksums, in order, each 0 to 2**32 - 1.

    Raises:
        TypeError: an item is not a contiguous buffer of bytes; the message has its index.
        ValueError: ``workers`` is below 1.

    >>> from plait.kernels import crc32
    >>> crc32([b"123456789"])
    [3421780262]
    """
    return _core.crc32(buffers, workers)
