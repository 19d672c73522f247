"""Traces of asyncio's tasks: steps that the end of a trace, or of the interpreter, cuts off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import plait
import pytest
from conftest import PATIENCE
from plait import _core
from plait.lab.timeline import Span
from plait.lab.trace import Trace, trace
from test_trace import compute, lane_of

pytestmark = pytest.mark.skipif(not hasattr(_core, "Sampler"), reason="Linux's clocks are read")

# A thread that computes in a step of a task when the interpreter ends; a second step, as the first
# one is another case.
BUSY_AT_EXIT = """
import asyncio, threading, time
busy = threading.Event()

async def work():
    await asyncio.sleep(0)
    busy.set()
    while True:
        sum(range(50))

threading.Thread(target=lambda: asyncio.run(work()), daemon=True).start()
busy.wait()
time.sleep(0.05)  # so that the exit meets it in the middle
"""


def task_spans(t: Trace, name: str) -> list[Span]:
    lane = lane_of(t, name)
    return [span for span in t.spans if span.lane == lane.id]


def test_tasks() -> None:
    async def work() -> None:
        await asyncio.sleep(0.03)
        compute(0.01)
        await plait.aio.sleep(0.03)

    async def main() -> None:
        tasks = [asyncio.create_task(work(), name=f"work {i}") for i in range(2)]
        await asyncio.gather(*tasks)

    with trace() as t:
        asyncio.run(main())
    for i in range(2):
        lane = lane_of(t, f"work {i}")
        assert lane.kind == "coroutine"
        spans = t.timeline.of(lane)
        slept = [span for span in spans if span.state == "sleep"]
        assert slept
        assert slept[0].name == "asyncio.sleep"
        assert any(span.state in ("gil", "nogil") for span in spans)
        assert any(arrow.to_lane == lane.id for arrow in t.arrows)


def test_the_exit_ends_a_step_of_a_task_in_a_daemon_thread(tmp_path: Path) -> None:
    script = tmp_path / "busy.py"
    script.write_text(BUSY_AT_EXIT)
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-m", "plait", "trace", str(script), "-o", str(tmp_path / "x.html")],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("steps_before", [0, 1])
def test_a_step_that_is_under_way_at_the_end_ran(steps_before: int) -> None:
    is_busy, is_over = threading.Event(), threading.Event()

    async def work() -> None:
        for _ in range(steps_before):
            await asyncio.sleep(0)
        compute(0.05)
        is_busy.set()
        while not is_over.is_set():
            compute(0.001)

    async def main() -> None:
        await asyncio.create_task(work(), name="busy")

    with trace() as t:
        thread = threading.Thread(target=lambda: asyncio.run(main()))
        thread.start()
        assert is_busy.wait(PATIENCE)
    is_over.set()
    thread.join()
    spans = task_spans(t, "busy")
    ran = sum(s.end_s - s.start_s for s in spans if s.state in ("gil", "nogil", "wait_gil"))
    waited = sum(s.end_s - s.start_s for s in spans if s.state in ("sleep", "idle", "wait_lock"))
    assert ran > 0.04
    assert waited < ran / 2
