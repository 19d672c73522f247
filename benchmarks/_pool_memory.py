"""What plait's process pool uses of the processor when idle, and of memory: parts of `pool`."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import plait
from _soak import MB, Soak, tell, value_of


def small(n: int) -> int:
    return n + 1


def total(array: np.ndarray) -> float:
    return float(array[::512].sum())


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def idle(seconds: float = 3.0) -> bool:
    """The processor time of a pool of 8 workers that has nothing to do, its parent's included."""
    with plait.ProcessPoolExecutor(8) as pool:
        for future in [pool.submit(time.sleep, 0.2) for _ in range(16)]:
            future.result()
        pids = [*pool._processes, os.getpid()]
        time.sleep(0.5)
        before = cpu_seconds(pids)
        time.sleep(seconds)
        used = cpu_seconds(pids) - before
    share = used / seconds * 100
    return tell(
        f"processor time of {len(pids) - 1} idle workers", f"{share:.2f} %", "none", share < 0.5
    )


GENERATOR = """
import sys, time
sys.path.insert(0, sys.argv[1])
import plait
from _pool_memory import small, value_of
with plait.ProcessPoolExecutor(2) as pool:
    began = time.perf_counter()
    total = sum(pool.map(small, (n for n in range(10_000_000))))
    took = time.perf_counter() - began
assert total == sum(range(1, 10_000_001)), total
print(value_of("self", "VmHWM"), took)
"""


def generator() -> bool:
    """In a program of its own, whose peak is its own (ru_maxrss would be its parent's)."""
    here = str(Path(__file__).parent)
    out = subprocess.check_output([sys.executable, "-c", GENERATOR, here], text=True)
    peak, took = (float(word) for word in out.split())
    fine = tell(
        "map over 10 million items: the parent's peak",
        f"{peak / MB:.0f} MB",
        "below 150 MB",
        peak < 150 * MB,
    )
    tell("  time for an item", f"{took / 10:.2f} µs", "", True)
    return fine


def one_array() -> bool:
    """An array of 1 GB that two workers look at, in memory once."""
    array = np.ones(1 << 27)
    expected = total(array)
    with plait.ProcessPoolExecutor(2) as pool:
        list(pool.map(small, range(100)))
        pids = [*pool._processes, os.getpid()]
        before = sum(value_of(pid, "Pss", "smaps_rollup") for pid in pids)
        assert list(pool.map(total, [array] * 4, chunksize=1)) == [expected] * 4
        after = sum(value_of(pid, "Pss", "smaps_rollup") for pid in pids)
    grown = (after - before) / MB
    # The parent's own gigabyte is there before; what is sent is there once, whoever looks.
    return tell(
        "1 GB array mapped 4 times by 2 workers: more memory",
        f"{grown:.0f} MB",
        "about 1 GB once",
        grown < 1200,
    )


def soak(minutes: float) -> bool:
    """Small tasks, large ones, errors and deaths; memory and descriptors must stay."""
    done, block = 0, bytes(4 * MB)
    with plait.ProcessPoolExecutor(2) as pool:
        watch = Soak(minutes, "tasks", lambda: list(pool._processes))
        for part in itertools.count():
            done += sum(1 for _ in pool.map(small, range(50_000)))
            done += len([f.result() for f in [pool.submit(small, n) for n in range(2000)]])
            done += len(list(pool.map(len, [block] * 8)))
            failing = [pool.submit(int, "x") for _ in range(20)]
            done += sum(future.exception() is not None for future in failing)
            if part % 10 == 0:
                assert pool.submit(os._exit, 1).exception() is not None
            if not watch.goes_on(done):
                return watch.verdict()
    return False
