"""Parallelism

Parallelism means that tasks really run at the same instant, each on a core of its own. It
takes more than one core, and for Python code under the GIL it takes processes: each has an
interpreter, and a GIL, of its own.

The standard library's pool and plait.map(how="process") run the same Python function in two
processes. plait.kernels.count_primes is another thing: the same algorithm compiled from
Rust, spread over threads with the GIL released. Most of its gain comes from being compiled,
so both are timed: one worker shows the compiled gain, all workers the parallel one.
"""

import multiprocessing
import time

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span

LIMIT = 400_000
RANGES = [(low, low + LIMIT // 8) for low in range(0, LIMIT, LIMIT // 8)]


def primes_in(bounds: tuple[int, int]) -> int:
    low, high = bounds
    count = 0
    with span(f"{low // 1000}k", "gil"):
        for n in range(max(low, 2), high):
            if all(n % divisor for divisor in range(2, int(n**0.5) + 1)):
                count += 1
    return count


def with_stdlib(delay: float) -> None:
    began = time.perf_counter()
    with multiprocessing.Pool(plait.cpu_count()) as pool:
        counts = pool.map(primes_in, RANGES, chunksize=1)
        total = sum(counts)
    took = time.perf_counter() - began
    print(f"Pool, start included: {total} primes in {took:.3f} s")


def with_plait(delay: float) -> None:
    began = time.perf_counter()
    counts = plait.map(primes_in, RANGES, how="process", chunksize=1)
    total = sum(counts)
    took = time.perf_counter() - began
    print(f"plait.map, start included: {total} primes in {took:.3f} s")
    for workers in sorted({1, plait.cpu_count()}):
        began = time.perf_counter()
        with span(f"Rust x {workers}", "idle", holder="Rust's threads"):
            total = plait.kernels.count_primes(LIMIT, workers=workers)
        took = time.perf_counter() - began
        print(f"Rust, workers={workers}: {total} primes in {took:.4f} s")


if __name__ == "__main__":
    main(with_stdlib, with_plait)
