"""What this machine can do at most: the measuring sticks of a verdict."""

from __future__ import annotations

import ctypes
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import kernels

__all__ = ["Copying", "ceiling", "copying", "item_bytes"]

_COPY_BYTES = 1 << 25  # beyond the caches that a core has to itself


def _quickest(
    run: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    found = []
    for _ in range(times):
        start = clock()
        run()
        found.append(clock() - start)
    return min(found)


def ceiling(workers: int) -> float:
    """How much faster `workers` threads are than one at computing alone: in Rust, without a GIL.

    A neighbour on the cores, or cores that are two threads of one, make it less than `workers`.
    """
    kernels.count_primes(0, workers)
    alone = together = math.inf
    for _ in range(6):  # in turns: whoever else is on the cores is there for both
        alone = min(alone, _quickest(lambda: kernels.count_primes(150_000, 1), 1))
        together = min(together, _quickest(lambda: kernels.count_primes(150_000, workers), 1))
    return alone / together


@dataclass(frozen=True)
class Copying:
    """The machine's memory, by copying a large block.

    Attributes:
        rate: bytes read and written in a second of one thread's CPU time: what other programs
            take of the cores is not memory's.
        speedup: how much faster `workers` threads are at it than one.
    """

    rate: float
    speedup: float


def copying(workers: int) -> Copying:
    """Measure it, with ``memmove``, which is called with the GIL released."""
    kind = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    move = kind(ctypes.cast(ctypes.CDLL(None).memmove, ctypes.c_void_p).value or 0)
    blocks = [
        (ctypes.create_string_buffer(_COPY_BYTES), ctypes.create_string_buffer(_COPY_BYTES))
        for _ in range(workers)
    ]

    def copy(block: Any) -> None:
        move(ctypes.addressof(block[0]), ctypes.addressof(block[1]), _COPY_BYTES)

    def all_at_once() -> None:
        threads = [threading.Thread(target=copy, args=(block,)) for block in blocks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for block in blocks:
        copy(block)
    alone = _quickest(lambda: copy(blocks[0]), 4)
    together = _quickest(all_at_once, 4)
    spent = _quickest(lambda: copy(blocks[0]), 4, time.thread_time)
    return Copying(2 * _COPY_BYTES / max(spent, 1e-9), workers * alone / together)


def item_bytes(item: Any, depth: int = 3) -> int:
    """How many bytes of buffers (bytes, arrays) are in an item."""
    try:
        return memoryview(item).nbytes
    except (TypeError, BufferError, ValueError):
        pass
    if depth and isinstance(item, dict):
        return sum(item_bytes(value, depth - 1) for value in item.values())
    if depth and isinstance(item, (list, tuple)) and len(item) < 1000:
        return sum(item_bytes(value, depth - 1) for value in item)
    return 0
