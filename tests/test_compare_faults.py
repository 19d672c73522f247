"""compare, given work that raises, hangs, crashes, prints, changes its input, or isn't the same."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import PATIENCE
from plait.lab import Report, compare
from plait.lab import against as against_module
from plait.lab.asked import find_items, find_what
from plait.lab.report import Row, write_whole

pytestmark = pytest.mark.timeout(PATIENCE * 2)


def crash(n):
    os.kill(os.getpid(), signal.SIGSEGV)


def leave(n):
    os._exit(3)


def ask_to_exit(n):
    sys.exit(4)


def hang(n):
    threading.Event().wait()


def hang_in_a_thread(n):
    if threading.current_thread() is not threading.main_thread():
        threading.Event().wait()
    return n


def crash_in_a_thread(n):
    if threading.current_thread() is not threading.main_thread():
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def crash_in_a_worker(n):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


def say(n):
    print("said", n)
    return n


def grow(numbers):
    numbers.append(1)
    return len(numbers)


def draw(n):
    return random.random()


def make_object(n):
    return object()


def double(n):
    return 2 * n


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (crash, "SIGSEGV"),
        (leave, "exit code 3"),
        (ask_to_exit, "SystemExit: 4"),
    ],
)
def test_what_ends_an_interpreter_is_a_reason(task, says):
    report = compare(task, [1], models=["threading", "futures.process"], repeats=1)
    assert not any(row.ok for row in report.rows)
    assert all(says in row.reason for row in report.rows)
    assert says in report.verdict
    assert report.best is None


def test_what_hangs_is_stopped():
    report = compare(hang, [1], models=["threading", "plait.process"], repeats=1, timeout=0.5)
    assert all("took longer than" in row.reason for row in report.rows)


def test_what_hangs_and_cannot_be_sent_is_stopped_here():
    lock = threading.Lock()
    lock.acquire()
    report = compare(lambda n: lock.acquire(), [1], models=["serial"], repeats=1, timeout=0.3)
    assert "took longer than" in report["serial"].reason


@pytest.mark.once
def test_only_the_model_that_hangs_is_not_ok():
    # Long enough for serial, whatever else the machine does.
    report = compare(hang_in_a_thread, [1], models=["threading"], repeats=1, timeout=8.0)
    assert report["serial"].ok
    assert "took longer" in report["threading"].reason


def test_only_the_model_that_crashes_is_not_ok():
    report = compare(
        crash_in_a_thread, [1, 2], models=["threading", "futures.process"], repeats=1, workers=1
    )
    assert report["serial"].ok
    assert "SIGKILL" in report["threading"].reason
    assert report["futures.process"].ok


def test_the_dead_workers_of_one_model_are_its_reason_alone():
    report = compare(
        crash_in_a_worker, [1, 2], models=["futures.process", "plait.process"], repeats=1
    )
    assert report["serial"].ok
    assert "terminated abruptly" in report["futures.process"].reason
    assert not report["plait.process"].ok


def test_what_tasks_print_is_counted_and_not_shown(capfd):
    report = compare(say, [1, 2], models=["threading", "futures.process"], repeats=1)
    assert all(row.ok for row in report.rows)
    assert report.printed == len("said 1\nsaid 2\n")
    assert capfd.readouterr() == ("", "")
    assert "printed 14 characters" in report.verdict


def test_a_task_that_changes_its_input_is_refused_and_the_input_is_as_it_was():
    items = [[1], [2]]
    report = compare(grow, items, models=["threading", "futures.process"], repeats=1)
    assert items == [[1], [2]]
    assert not any(row.ok for row in report.rows)
    assert all("refused, it changes its input: at [0]" in row.reason for row in report.rows)


def test_a_task_that_cannot_be_sent_and_changes_its_input_is_refused():
    lock = threading.Lock()

    def grow_here(numbers):
        with lock:
            numbers.append(1)
        return 0

    report = compare(grow_here, [[1]], models=["serial"], repeats=1)
    assert "changes its input" in report["serial"].reason


def test_results_that_change_or_cannot_be_compared_are_refused():
    report = compare(draw, [1], models=["threading"], repeats=1)
    assert "refused, its result changes from run to run" in report["serial"].reason
    report = compare(make_object, [1], models=["threading"], repeats=1)
    assert "refused, its results can't be compared" in report["serial"].reason


def test_floats_may_differ_within_a_stated_tolerance():
    seen = []

    def nearly(n):
        seen.append(n)
        return 1.0 + len(seen) * 1e-12

    assert not compare(nearly, [1], models=["serial"], repeats=1)["serial"].ok
    report = compare(nearly, [1], models=["serial"], repeats=1, tolerance=1e-6)
    assert report["serial"].ok
    assert "1e-06" in report.verdict


@pytest.mark.parametrize(("name", "value"), [("timeout", 0), ("timeout", -1), ("tolerance", 2.0)])
def test_limits_that_make_no_sense_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        compare(double, [1], **{name: value})


def test_shares_sum_to_one_and_are_those_of_the_contract():
    names = ["compute", "gil_wait", "io_wait", "lock_wait"]
    names += ["pickling", "queueing", "startup", "idle"]
    report = compare(
        time.sleep,
        [0.002] * 8,
        models=["threading", "futures.thread", "multiprocessing", "plait.process", "gevent"],
        repeats=1,
        workers=2,
    )
    for row in report.rows:
        if row.ok:
            assert list(row.shares) == names
            assert sum(row.shares.values()) == pytest.approx(1)
            assert all(value >= 0 for value in row.shares.values())
            assert set(row.inferred) <= set(names)
    assert report["threading"].shares["io_wait"] > report["threading"].shares["compute"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nope", "no workload is called 'nope'"),
        ("no_such_module:f", "there is no module no_such_module"),
        ("no_such_file.py:f", "there is no file"),
        ("math:nope", "math has no 'nope'"),
        ("math:pi", "not callable"),
    ],
)
def test_what_cannot_be_compared_is_said(text, says, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ValueError, match=says):
        find_what(text)


def test_items_by_words():
    assert find_items("range(3)", {}) == [0, 1, 2]
    assert find_items("N", {"N": (1, 2)}) == [1, 2]
    assert find_items("make", {"make": lambda: [5]}) == [5]
    for text, says in {"1 +": "gives no items", "3": "gives no items", "@no/such": "read"}.items():
        with pytest.raises(ValueError, match=says):
            find_items(text, {})


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Report, Path]:
    report = compare(
        time.sleep, [0.001] * 4, models=["threading", "plait.thread", "plait.tokio"], repeats=2
    )
    path = tmp_path_factory.mktemp("saved") / "report.json"
    report.save(path)
    return report, path


def test_a_saved_report_loads_again(saved):
    report, path = saved
    loaded = Report.load(path)
    assert loaded == report
    assert loaded.verdict == report.verdict
    assert loaded.to_json() == report.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "other"}', "\x00"])
def test_what_is_no_report_is_not_loaded(tmp_path, text):
    path = tmp_path / "no.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="no saved report"):
        Report.load(path)


def test_two_reports_are_compared(saved):
    report, _ = saved
    assert {change.means for change in report.against(report).changes} <= {"same", "neither"}
    row = Row("m", True, None, 2.0, 0.1, 2.0, 0.0, 1.0, {})
    faster = Row("m", True, None, 1.0, 0.1, 1.0, 0.0, 2.0, {})
    change = against_module.Change.between
    assert change("m", row, faster).means == "faster"
    assert change("m", row, faster).ratio == 2.0
    assert change("m", faster, row).means == "slower"
    assert change("m", None, row).means == "new"
    assert change("m", row, Row("m", False, "why")).means == "gone"
    text = str(report.against(report))
    assert "threading" in text
    json.dumps(report.against(report).to_dict())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_leaves_the_older_file(saved, tmp_path, monkeypatch):
    report, _ = saved
    path = tmp_path / "report.json"
    report.save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        report.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.json"]
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        write_whole(Path("/dev/full"), b"x" * 100_000)
