"""Processes as they start where there is no zygote (Windows, macOS), by PLAIT_START=spawn."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import plait
import pytest
from conftest import PATIENCE, wait_until_gone
from plait.errors import SerializationError, WorkerDied

ROOT = Path(__file__).parents[1]

# Tests of plait's processes that are not for spawned ones, by why.
NOT_SPAWNED = {
    "they are about the zygote and its spares": [
        "test_process.py::test_a_variable_that_is_read_at_exec_makes_a_new_zygote",
        "test_process.py::test_a_process_started_after_an_interrupt_does_not_get_it",
        "test_process.py::test_a_zygote_that_cannot_be_replaced_spoils_no_start",
        "test_process.py::test_a_replaced_zygotes_spares_are_waited_for",
        "faults/test_process_faults.py::"
        "test_children_survive_the_zygotes_death_and_a_new_one_takes_over",
        "faults/test_process_faults.py::test_spares_that_are_killed_are_not_used",
        "faults/test_process_faults.py::test_a_stopped_zygote_is_still_the_zygote_when_it_goes_on",
        "faults/test_process_faults.py::test_interrupted_starts_leave_nothing",
        "faults/test_process_faults.py::"
        "test_an_interrupt_while_the_zygote_starts_is_for_the_parent_to_decide",
        "faults/test_process_faults.py::test_a_zygote_that_cannot_start_says_so",
    ],
    "they look at the zygote too; below are some that don't": [
        "faults/test_process_faults.py::"
        "test_busy_daemonic_children_end_with_a_parent_that_is_killed",
        "faults/test_process_faults.py::test_nothing_outlives_the_parents_exit",
        "faults/test_process_faults.py::test_interrupt_ends_parent_and_children",
    ],
    "the fork may come while a thread has a lock of the standard library's resource tracker": [
        "faults/test_process_faults.py::test_a_fork_while_other_threads_start_processes"
    ],
    "what replaces os.environ is not what the system hands on": [
        "test_process.py::test_an_environment_that_is_a_plain_dict"
    ],
    "output below sys.stdout goes where the parent's descriptor goes": [
        "test_process.py::test_output_goes_where_the_parents_goes_now"
    ],
    "the thread that watches a daemonic child's parent is one of Python's": [
        "faults/test_process_faults.py::"
        "test_a_daemonic_child_that_forks_is_not_warned_of_our_thread"
    ],
}


@pytest.fixture(autouse=True)
def spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_START", "spawn")


def started(target: Any, *args: Any, **options: Any) -> plait.Process:
    process = plait.Process(target=target, args=args, **options)
    process.start()
    return process


@pytest.mark.once
@pytest.mark.timeout(1000)
def test_the_tests_of_processes_pass() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-m", "not slow"]
        + [f"--deselect=tests/{name}" for names in NOT_SPAWNED.values() for name in names]
        + [f"tests/{name}" for name in ("test_process.py", "test_multiprocessing.py")]
        + ["tests/faults/test_process_faults.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-5000:]


def test_no_zygote_is_there(run_script: Any) -> None:
    run_script(
        """
        import plait, sys
        p = plait.Process(target=lambda: "plait._zygote" in sys.modules)
        p.start()
        assert p.result(30) is False
        assert "plait._zygote" not in sys.modules
        """
    )


def test_a_large_outcome_that_nobody_asks_for_does_not_hold_up_the_child() -> None:
    process = started(bytes, 5_000_000)
    process.join(PATIENCE)
    assert process.exitcode == 0
    assert len(process.result()) == 5_000_000


def test_output_to_an_object_without_a_descriptor_is_there_after_join() -> None:
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured), contextlib.redirect_stderr(captured):
        process = started(lambda: print("a" * 100_000, file=sys.stderr) or print("änderung"))
    process.join()
    assert sorted(captured.getvalue().split()) == ["a" * 100_000, "änderung"]


def test_a_stream_that_breaks_does_not_hold_up_the_child() -> None:
    captured = io.StringIO()
    gate = plait.get_context().Event()

    def speak() -> str:
        gate.wait()
        print("x" * 1_000_000)
        return "spoke"

    with contextlib.redirect_stdout(captured):
        process = started(speak)
    captured.close()
    gate.set()
    assert process.result(PATIENCE) == "spoke"
    process.join()


def test_an_error_of_the_payload_starts_nothing_that_stays() -> None:
    process = plait.Process(target=print, args=(sys._getframe(),))
    with pytest.raises(SerializationError, match=r"args\[0\]"):
        process.start()
    assert process.pid is None
    assert process not in plait.active_children()


def test_a_child_that_is_killed_while_it_reports() -> None:
    reading = plait.get_context().Event()

    class Slow:
        def __reduce__(self) -> Any:
            reading.set()
            time.sleep(60)
            return int, ()

    process = started(Slow)
    assert reading.wait(PATIENCE)
    process.kill()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        process.result(PATIENCE)
    process.join()


PARENT = """
import os, sys, time, plait

def spin():
    while True:
        pass

def nested():
    p = plait.Process(target=spin, daemon=True)
    p.start()
    print(p.pid, flush=True)
    ready.set()
    spin()

ready = plait.get_context().Event()
a = plait.Process(target=spin, daemon=True)
a.start()
b = plait.Process(target=nested, daemon=True)
b.start()
print(a.pid, b.pid, flush=True)
ready.wait()
{then}
"""


@pytest.mark.parametrize(
    "then", ["time.sleep(60)", "sys.exit(0)", "raise RuntimeError", "os._exit(0)", "a.join()"]
)
def test_busy_daemonic_children_end_with_their_parent(then: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as run:
        assert run.stdout is not None
        pids: list[int] = []
        while len(pids) < 3:
            line = run.stdout.readline()
            assert line, "the script ended early"
            pids += [int(word) for word in line.split()]
        if then == "time.sleep(60)":
            run.kill()
        elif then == "a.join()":
            os.killpg(run.pid, signal.SIGINT)  # what a terminal does
        run.wait(PATIENCE)
        wait_until_gone(pids)


def test_children_of_both_ways_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = plait.get_context().Queue()
    ours = started(queue.put, "spawned")
    monkeypatch.delenv("PLAIT_START")
    theirs = started(queue.put, "forked")
    assert {queue.get(timeout=PATIENCE) for _ in range(2)} == {"spawned", "forked"}
    for process in (ours, theirs):
        process.join()
    queue.close()
    queue.join_thread()


def test_the_main_module_is_not_run_again_without_an_install(run_script: Any) -> None:
    done = run_script(
        """
        import multiprocessing, os, pickle, plait
        assert os.environ["PLAIT_START"] == "spawn"
        print("top level")
        class Point:
            def __init__(self, x): self.x = x
        def look(data):
            return pickle.loads(data).x, __name__, multiprocessing.current_process().name
        def nested(x):
            p = plait.Process(target=look, args=(pickle.dumps(Point(x)),), name="inner")
            p.start()
            return p.result(30)
        p = plait.Process(target=nested, args=(4,))
        p.start()
        print(p.result(30))
        multiprocessing.set_start_method("spawn")  # which the default still could become
        """
    )
    assert done.stdout.splitlines() == ["top level", "(4, '__main__', 'inner')"]
