"""Whether the lab tells the truth: work whose kind is known, against the ``bound`` it gives.

    python benchmarks/lab.py [kind]

Prints one line a workload: what it is known to be, what `plait.lab.compare` says, the best
model and how far the best of the expected kind is behind it. Outside noise moves the figures; the
bounds should hold. The last lines time the named workloads with default settings.
"""

from __future__ import annotations

import ctypes
import hashlib
import random
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from plait.lab import compare, workloads

THREADS = ["threading", "futures.thread", "plait.thread"]
PROCESSES = ["multiprocessing", "futures.process", "plait.process"]
WAITING = [*THREADS, "asyncio", "gevent", "plait.tokio"]


def collatz(stop: int) -> int:
    longest = 0
    for n in range(1, stop):
        steps = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        longest = max(longest, steps)
    return longest


def sort_numbers(seed: int) -> float:
    numbers = random.Random(seed)
    return sorted(numbers.random() for _ in range(60_000))[1000]


def digest(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()


def key(salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", b"secret", salt, 60_000)


def deflated(data: bytes) -> int:
    return len(zlib.compress(data, 6))


def nap(duration: float) -> float:
    time.sleep(duration)
    return duration


def echoed(text: str) -> str:
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def answer() -> None:
            data = theirs.recv(100)
            time.sleep(0.004)
            theirs.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        ours.sendall(text.encode())
        got = ours.recv(100).decode()
        thread.join()
    return got


def square(n: int) -> int:
    return n * n


SCRATCH = bytearray(40_000_000)


def copied(data: bytes) -> int:
    """With the GIL held: more threads gain nothing, whatever memory would give."""
    memoryview(SCRATCH)[:] = data
    return SCRATCH[-1]


def moved(data: bytes) -> int:
    """The same by a foreign call, which releases it."""
    ctypes.memmove((ctypes.c_char * len(SCRATCH)).from_buffer(SCRATCH), data, len(data))
    return SCRATCH[-1]


def glanced_at(data: bytes) -> int:
    """Large items, of which next to nothing is read."""
    total = 0
    for n in range(10_000):
        total += data[n]
    return total


def summed(numbers: Any) -> float:
    return float(numbers.sum())


def triad(arrays: Any) -> float:
    import numpy

    a, b, out = arrays
    total = numpy.add(a, b, out=numpy.empty_like(out))
    return float(total[0])


def half_and_half(n: int) -> int:
    began = time.thread_time()
    total = 0
    while time.thread_time() - began < 0.004:
        total += 1
    time.sleep(0.004)
    return n


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


Case = tuple[str, str, Callable[[Any], Any], Sequence[Any], list[str]]


def cases() -> list[Case]:
    """What is known, a name, the work, its items, and the models of which the best should be."""
    found: list[Case] = [
        ("cpu", "collatz", collatz, [6000] * 12, PROCESSES),
        ("cpu", "sorting", sort_numbers, range(12), PROCESSES),
        ("cpu-nogil", "sha512", digest, [noise(8_000_000)] * 12, THREADS),
        ("cpu-nogil", "pbkdf2", key, [bytes([n]) * 8 for n in range(12)], THREADS),
        ("cpu-nogil", "zlib", deflated, [noise(1_500_000)] * 8, THREADS),
        ("io", "naps", nap, [0.01] * 24, WAITING),
        ("io", "sockets", echoed, [f"message {n}" for n in range(30)], WAITING),
        ("overhead", "squares", square, range(3000), ["serial"]),
        ("overhead", "lengths", len, ["abc"] * 3000, ["serial"]),
        ("mixed", "half and half", half_and_half, range(24), [*THREADS, *PROCESSES]),
        ("cpu", "copies, GIL", copied, [bytes(40_000_000)] * 20, []),
        ("cpu", "glances", glanced_at, [noise(8_000_000)] * 40, []),
        ("memory", "copies", moved, [bytes(40_000_000)] * 20, []),
    ]
    try:
        import numpy
    except ModuleNotFoundError:
        return found
    block = numpy.ones(6_000_000)
    found += [
        ("memory", "numpy sums", summed, [block + n for n in range(8)], []),
        ("memory", "numpy triads", triad, [(block, block + 1, block)] * 6, []),
    ]
    return found


def main(kind: str | None = None) -> int:
    wrong = 0
    print(f"{'known':10} {'work':14} {'bound':10} {'best':16} of kind")
    for known, name, task, items, expected in cases():
        if kind not in (None, known):
            continue
        report = compare(task, items, models=[*THREADS, *PROCESSES], repeats=3)
        total = {
            row.model: (row.wall_s or 0) + (row.startup_s or 0) for row in report.rows if row.ok
        }
        behind = min((total[m] for m in expected if m in total), default=0.0) / min(total.values())
        said = "" if report.bound == known else "  <- bound is wrong"
        wrong += report.bound != known
        behind_it = f"{behind:.2f}x behind" if expected else "-"
        print(f"{known:10} {name:14} {report.bound:10} {report.best:16} {behind_it}{said}")
        if said:
            print(f"    {report.bound_why}")
    if kind is None:
        for name in workloads():
            began = time.monotonic()
            report = compare(name)
            print(f"{name}: {time.monotonic() - began:.0f} s, {report.bound}, best {report.best}")
    return wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
