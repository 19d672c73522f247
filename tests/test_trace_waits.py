"""What plait's own threads and processes wait for is told as it is: work, not a lock."""

from __future__ import annotations

import os
import sys
import time

import plait
import pytest
from conftest import PATIENCE
from plait.lab import trace

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's clocks")


def until(t: trace, seen: object) -> None:
    """Waits until ``seen(t)``."""
    assert callable(seen)
    end = time.monotonic() + PATIENCE
    while not seen(t):
        assert time.monotonic() < end, [(s.name, s.state) for s in t.spans][-40:]
        time.sleep(0.05)


def waits_for_work(t: trace, lane: str) -> bool:
    return any(s.lane == lane and (s.state, s.name) == ("idle", "waits for work") for s in t.spans)


def test_a_thread_that_is_kept_for_the_next_waits_for_work() -> None:
    def task() -> None:
        time.sleep(0.05)  # so that it is seen at this

    with trace() as t:
        thread = plait.Thread(target=task, name="kept")
        thread.start()
        lane = f"{os.getpid()}.{thread.native_id}"
        thread.join()
        until(t, lambda t: waits_for_work(t, lane))


def test_a_pools_process_with_no_task_waits_for_work() -> None:
    with trace() as t, plait.ProcessPoolExecutor(1) as pool:
        pid = pool.submit(os.getpid).result()
        until(t, lambda t: waits_for_work(t, f"{pid}.{pid}"))


def test_who_calls_a_kernel_waits_for_its_threads_and_for_no_lock() -> None:
    with trace() as t:
        until(t, lambda t: plait.kernels.count_primes(400_000, 2) and any(
            (s.state, s.name) == ("idle", "count_primes") for s in t.spans
        ))  # fmt: skip
    assert not [s for s in t.spans if (s.state, s.name) == ("wait_lock", "count_primes")]
