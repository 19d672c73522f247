"""compare: its contract, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import copy
import csv
import importlib
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import zlib
from dataclasses import replace

import pytest
from conftest import PATIENCE, open_files, possessions
from plait.lab import Report, compare, models, processes, workloads
from plait.lab.same import first_difference
from plait.lab.workloads import Workload, prime_blocks
from plait.tasks import count_primes_in

# Not the modules' attributes: those are the functions of the same names.
models_module = importlib.import_module("plait.lab.models")
workloads_module = importlib.import_module("plait.lab.workloads")
compare_module = importlib.import_module("plait.lab.compare")

QUICK = ["threading", "multiprocessing", "futures.thread", "futures.process", "plait.process"]
FIGURES = ("wall_s", "spread_s", "cpu_s", "startup_s", "speedup", "shares")


@pytest.fixture
def small(monkeypatch):
    """The primes, but few of them."""
    workload = replace(
        workloads()["primes"],
        name="small",
        items=workloads_module._given(lambda: prime_blocks(40_000, 2_000)),
    )
    monkeypatch.setitem(workloads_module.WORKLOADS, "small", workload)
    return workload


@pytest.fixture
def nothing_left():
    """After the test: no process, thread or descriptor more than before it."""

    def left():
        names = {t.name for t in threading.enumerate() if t.name.startswith("plait-lab")}
        return names, *possessions()

    # What is made once for the whole process (plait's zygote, rayon's pool) is no leak.
    compare(abs, [1], models=["multiprocessing", "plait.process"], repeats=1)
    before = left()
    yield
    names, children, descriptors = left()
    assert not names
    assert children <= before[1]
    assert descriptors <= before[2], open_files()


def double(n):
    return n * 2


def fail_at_3(n):
    if n == 3:
        raise KeyError("three")
    return n


@pytest.mark.once  # all models, some of which take seconds to start
def test_a_report_holds_its_contract(small, nothing_left):
    report = compare("small", repeats=2, workers=2)
    assert [row.model for row in report.rows] == list(models())
    assert {"serial", *QUICK, "plait.rayon"} <= {row.model for row in report.rows if row.ok}
    for row in report.rows:
        figures = [getattr(row, name) for name in FIGURES]
        if row.ok:
            assert row.reason is None
            assert None not in figures
            assert row.wall_s > 0
            assert row.speedup == pytest.approx(report["serial"].wall_s / row.wall_s)
            assert sum(row.shares.values()) == pytest.approx(1)
        else:
            assert row.reason
            assert figures == [None] * len(figures)
    ok = [row for row in report.rows if row.ok]
    assert report.best == min(ok, key=lambda row: row.startup_s + row.wall_s).model
    assert report.bound in {"cpu", "cpu-nogil", "io", "overhead", "memory", "mixed"}
    assert report.bound_why in report.verdict
    places = [(cell.language, cell.mode) for cell in report.cells]
    assert places == [(a, b) for a in ("python", "rust") for b in ("serial", "parallel")]
    assert all(cell.wall_s for cell in report.cells)


def test_a_report_can_be_had_in_every_form(small, tmp_path):
    report = compare("small", models=["threading", "gevent"], repeats=1)
    data = json.loads(report.to_json())
    assert data == json.loads(json.dumps(report.to_dict()))
    assert data["rows"][0]["model"] == "serial"
    for ending, start in {
        ".svg": b"<?xml",
        ".png": b"\x89PNG",
        ".html": b"<!doctype html>",
    }.items():
        report.save(tmp_path / f"report{ending}")
        assert (tmp_path / f"report{ending}").read_bytes().startswith(start)
    page = (tmp_path / "report.html").read_text()
    assert "src=" not in page
    assert "<link" not in page
    report.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == data
    report.save(str(tmp_path / "report.csv"))
    with open(tmp_path / "report.csv", newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)] == ["serial", "threading", "gevent"]
    assert "threading" in str(report)
    assert "<table" in report._repr_html_()
    with pytest.raises(ValueError, match=r"'report\.pdf'.*\.html"):
        report.save(tmp_path / "report.pdf")


def test_without_pandas_to_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    report = compare(double, range(3), models=["serial"], repeats=1)
    with pytest.raises(ModuleNotFoundError, match="pip install pandas"):
        report.to_pandas()


class Liar(models_module.ThreadSession):
    """Gives one result of many as it is not."""

    def run(self):
        results = super().run()
        results[4] = self.lie(results[4])
        return results


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda n: n + 1, r"at \[4\]: 8 expected, got 9"),
        (float, r"at \[4\]: int 8 expected, got float 8\.0"),
        (lambda n: None, r"at \[4\]: int 8 expected, got NoneType None"),
    ],
)
def test_a_model_that_lies_is_refused(monkeypatch, lie, says):
    lying = type("Lying", (Liar,), {"lie": staticmethod(lie)})
    honest = models_module.MODELS["threading"]
    monkeypatch.setitem(models_module.MODELS, "liar", replace(honest, name="liar", open=lying))
    report = compare(double, range(10), models=["threading", "liar"], repeats=1)
    row = report["liar"]
    assert not row.ok
    assert row.reason.startswith("refused")
    assert re.search(says, row.reason), row.reason
    assert all(getattr(row, name) is None for name in FIGURES)
    assert report["threading"].ok
    assert report.best != "liar"
    assert "liar" in report.verdict


def test_a_result_that_changes_from_run_to_run_is_refused_with_all_rows():
    seen = iter(range(1000))
    report = compare(lambda item: next(seen), [0], models=["threading"], repeats=2)
    assert report["serial"].reason.startswith("refused, its result changes")
    assert report["threading"].reason.startswith("not compared: serial is refused")
    assert all(not row.ok and row.reason for row in report.rows)
    # Serial alone: the others' results happen to be its first one.
    main = threading.main_thread()
    calls = iter(range(1000))

    def changes(item):
        return next(calls) if threading.current_thread() is main else 0

    report = compare(changes, [0], models=["threading"], repeats=1)
    assert all(not row.ok and row.reason for row in report.rows)
    assert report.best is None


def test_a_result_that_contains_itself_is_compared():
    def endless(item):
        found = []
        found.append(found)
        return found

    report = compare(endless, [0], models=["threading"], repeats=1)
    assert all(row.ok for row in report.rows)


def test_arrays_of_objects_are_compared_by_their_members():
    numpy = pytest.importorskip("numpy")
    one, same, other = (numpy.array([text], dtype=object) for text in ("a", "a", "b"))
    assert first_difference(one, same) is None
    assert first_difference(one, other) is not None
    ours, theirs = (numpy.array([10**size], dtype=object) for size in (30, 30))
    assert ours[0] is not theirs[0]
    assert first_difference(ours, theirs) is None


def test_a_kernel_that_lies_is_refused(small, monkeypatch):
    wrong = replace(small, native=lambda items, workers: 4202)
    monkeypatch.setitem(workloads_module.WORKLOADS, "small", wrong)
    report = compare("small", models=["plait.rayon"], repeats=1)
    assert report["plait.rayon"].reason.endswith("at the result: 4203 expected, got 4202")
    assert [cell.wall_s is None for cell in report.cells[2:]] == [True, True]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [1, 2, 3]),
        ([1], (1,)),
        ([1], [1.0]),
        ([True], [1]),
        (0.0, -0.0),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"a": 1}),
        ({1: "a"}, {True: "a"}),
        ([[1, 2], [3]], [[1, 2], [4]]),
        (b"a", "a"),
        (None, 0),
        (object(), object()),
    ],
)
def test_unequal_is_never_called_equal(one, other):
    assert first_difference(one, other) is not None
    assert first_difference(other, one) is not None


@pytest.mark.parametrize(
    "value",
    [float("nan"), [1, "a", None], {"a": [1.5, float("nan")]}, [], {}, {1, 2}, range(5)],
)
def test_equal_is_called_equal(value):
    assert first_difference(value, copy.deepcopy(value)) is None


def test_lambdas_and_local_functions_run_where_they_can(nothing_left):
    offset = 10

    def shifted(n):
        return n + offset

    for function in (shifted, lambda n: n + offset):
        report = compare(function, range(20), models=QUICK, repeats=1, workers=2)
        ok = {row.model: row.ok for row in report.rows}
        assert ok == {
            "serial": True,
            "threading": True,
            "multiprocessing": False,
            "futures.thread": True,
            "futures.process": False,
            "plait.process": True,
        }
        assert "cannot be pickled" in report["multiprocessing"].reason


def test_an_async_def_runs_under_the_coroutine_models(nothing_left):
    under_way, most = 0, 0

    async def nap(n):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return n

    for model in ("asyncio", "plait.tokio"):
        most = 0
        report = compare(nap, range(20), models=["threading", model], workers=10, repeats=1)
        assert report["serial"].ok
        assert report[model].ok
        assert most > 1  # at once, which serial's are not
        assert report.cells[2].wall_s is None  # the task is Python
        assert "coroutine" in report["threading"].reason
        assert report.bound == "io"


def test_compare_works_inside_a_running_loop():
    async def main():
        return compare(double, range(3), models=["asyncio"], repeats=1)

    assert asyncio.run(main())["serial"].ok


def test_a_failing_task_is_a_reason_in_all_rows(nothing_left):
    report = compare(fail_at_3, range(10), models=QUICK, repeats=1)
    assert not any(row.ok for row in report.rows)
    assert all("KeyError: 'three'" in row.reason for row in report.rows)
    assert report.best is None
    assert report.bound is None
    assert "KeyError" in report.verdict
    assert str(report)
    assert report._repr_html_()


def fail_in_a_worker(n):
    if multiprocessing.parent_process() is not None and n == 3:
        raise RuntimeError("only here")
    return n


def die_in_a_worker(n):
    if multiprocessing.parent_process() is not None and n == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize(
    ("task", "says"), [(fail_in_a_worker, "only here"), (die_in_a_worker, "worker|process")]
)
def test_what_fails_under_one_model_only_is_that_rows_reason(task, says, nothing_left):
    report = compare(task, range(10), models=QUICK, repeats=1, workers=2)
    for row in report.rows:
        if row.model in ("multiprocessing", "futures.process", "plait.process"):
            assert not row.ok
            assert re.search(says, row.reason), row
        else:
            assert row.ok


def test_results_that_cannot_be_pickled_are_a_reason(nothing_left):
    report = compare(threading_lock, range(3), models=["multiprocessing"], repeats=1)
    assert "pickle" in report["multiprocessing"].reason


def threading_lock(n):
    return threading.Lock()


@pytest.mark.parametrize("model", ["serial", *QUICK])
def test_an_interrupt_ends_it_at_once_and_leaves_nothing(model, nothing_left):
    items = [0.001] * 4 + [1.0] * 400
    plan = compare_module.make_plan(time.sleep, items, models=[model], repeats=1, workers=2)
    plan = replace(plan, models=[models()[model]])  # serial's own minute is not this test's
    start = time.monotonic()  # of minutes
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            compare_module.run_plan(plan)
    finally:
        timer.cancel()
    assert time.monotonic() - start < 100
    for thread in threading.enumerate():  # a task that sleeps cannot be ended from outside
        if thread.name.startswith("plait-lab"):
            thread.join(PATIENCE)


def test_an_interrupt_that_another_thread_gets_waits_until_workers_are_known():
    ended = threading.Event()
    started = interrupted = False
    other = threading.Thread(target=ended.wait)
    other.start()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        with processes.interrupts_held_back():
            signal.pthread_kill(other.ident, signal.SIGINT)
            os.read(reader, 1)  # it has arrived
            started = True
    except KeyboardInterrupt:
        interrupted = True
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)
        ended.set()
        other.join()
    assert started
    assert interrupted


@pytest.mark.parametrize("name", ["workers", "repeats"])
@pytest.mark.parametrize("value", [0, -3])
def test_counts_below_one_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got {value}"):
        compare("primes", **{name: value})


def test_unknown_names_are_refused_with_the_lists():
    with pytest.raises(ValueError, match=r"'nope'.*primes"):
        compare("nope")
    with pytest.raises(ValueError, match=r"'green'.*serial.*plait\.tokio"):
        compare("primes", models=["serial", "green"])


def test_wrong_kinds_of_arguments_are_refused():
    with pytest.raises(TypeError, match="callable"):
        compare(3, [1])
    with pytest.raises(TypeError, match="items"):
        compare(double)
    with pytest.raises(TypeError, match="brings its own items"):
        compare("primes", [1])
    with pytest.raises(TypeError):
        compare("primes", workers=1.5)


def test_no_items_at_all():
    report = compare(double, [], models=["threading", "plait.process"], repeats=1)
    assert all(row.ok for row in report.rows)


def test_tiny_tasks_are_bound_by_overhead():
    assert compare(abs, range(2000), models=["threading"], repeats=1).bound == "overhead"


@pytest.mark.parametrize(
    ("task", "items", "bound"),
    [
        (count_primes_in, [(0, 30_000)] * 4, "cpu"),
        (zlib.crc32, [bytes(20_000_000)] * 4, "cpu-nogil"),
        (time.sleep, [0.005] * 10, "io"),
    ],
)
def test_what_bounds_the_work_is_measured(task, items, bound):
    report = compare(task, items, models=["serial"], repeats=3)
    if bound == "cpu-nogil" and not getattr(sys, "_is_gil_enabled", lambda: True)():
        bound = "cpu"  # where there is no GIL, none can be released
    assert report.bound == bound, report.bound_why


def test_a_model_that_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = compare(double, [1], models=["gevent", "joblib", "dask"], repeats=1)
    reasons = [report[name].reason for name in ("gevent", "joblib", "dask")]
    assert all("pip install" in reason for reason in reasons)


def test_workloads_and_models_can_be_listed():
    assert all(isinstance(workload, Workload) for workload in workloads().values())
    assert isinstance(compare(count_primes_in, [(0, 9)], models=["serial"], repeats=1), Report)


def test_no_round_is_begun_that_would_take_too_long(monkeypatch):
    monkeypatch.setattr(sys.modules["plait.lab.rounds"], "BUDGET_S", 0.0)
    report = compare(lambda n: n + 1, range(3), models=["threading"], repeats=4)
    assert report.repeats == 1
    assert report.rows[0].ok


def test_of_a_workload_no_model_is_begun_when_the_time_is_used_up(monkeypatch):
    monkeypatch.setattr(sys.modules["plait.lab.rounds"], "BUDGET_S", 0.0)
    report = compare("sleep", models=["asyncio"])
    assert report.best == "serial"
    assert "so busy is this machine" in report["asyncio"].reason
    assert compare("sleep", models=["asyncio"], timeout=60, repeats=1)["asyncio"].ok
