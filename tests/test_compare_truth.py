"""compare says nothing that it has not seen: clocks, bounds, shares and the verdict."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import threading

import pytest
from plait.lab import models
from plait.lab.bounds import find_bound, memory_bound
from plait.lab.clocks import Cost, Profile, measured, profile
from plait.lab.coroutines import CoroutineSession
from plait.lab.machine import Copying
from plait.lab.report import Bound, BreakEven, Cell, Report, Row, Scaling
from plait.lab.rounds import Entry
from plait.lab.sessions import Job, SerialSession
from plait.lab.shares import Waits, find_shares
from plait.lab.turns import say, take_turn
from plait.lab.verdict import write_verdict

clocks = importlib.import_module("plait.lab.clocks")


def serial(**figures):
    entry = Entry(models()["serial"], 1, "python")
    entry.startups, entry.costs = [0.0], [Cost(**{"wall": 1.0, "cpu": 1.0, **figures})]
    return entry


def seen(gil=1.0, nogil=0.0, asked=True):
    return Profile(30, gil, nogil, 0.0, 0.0, asked)


async def answer(n):
    return n


def run_of(session):
    with session, measured(session) as cost:
        session.run()
    return cost


def test_delays_and_cpu_are_those_of_the_thread_that_works(monkeypatch):
    asked = []
    monkeypatch.setattr(clocks, "run_delay", lambda thread=None: asked.append(thread) or 0.0)
    monkeypatch.setattr(clocks, "_thread_clock", lambda thread: asked.append(thread) or 0.0)
    session = CoroutineSession(
        Job([1], answer, coroutine=answer, task_is_coroutine=True), 1, answer
    )
    run_of(session)
    assert set(asked) == {session.threads[0]}
    assert threading.get_native_id() not in asked
    asked.clear()
    run_of(SerialSession(Job([1], abs), 1))
    assert set(asked) == {threading.get_native_id()}


def test_a_loops_thread_that_had_no_core_was_not_waiting(monkeypatch):
    delays = iter([0.0, 1e9])
    monkeypatch.setattr(clocks, "run_delay", lambda thread=None: next(delays))
    session = CoroutineSession(
        Job([1], answer, coroutine=answer, task_is_coroutine=True), 1, answer
    )
    cost = run_of(session)
    assert cost.preempted == 1e9
    for kind in ("serial", "loop"):
        cost = Cost(wall=1.0, cpu=0.5, worker_cpu=0.5, preempted=0.5)
        shares, _ = find_shares(kind, cost, 1, 0.0, Waits(0.0, 0.0))
        assert shares["compute"] == shares["queueing"] == pytest.approx(0.5)
        assert shares["io_wait"] == pytest.approx(0)


def test_serials_sessions_run_tasks_for_a_while():
    calls = []

    async def note(n):
        calls.append((n, threading.get_native_id()))

    with CoroutineSession(Job([1, 2], note, coroutine=note, task_is_coroutine=True), 1, note) as it:
        tasks, spent = it.run_for(0.0)
        assert (tasks, calls) == (1, [(1, it.threads[0])])
        assert spent > 0
    with SerialSession(Job([5, 6], calls.append), 1) as session:
        assert session.run_for(0.0)[0] == 1
        assert session.run_for(0.001)[0] > 1
        assert calls[-1] in (5, 6)
    with SerialSession(Job([], calls.append), 1) as session:
        assert session.run_for(0.0) == (0, 0.0)
        assert profile(session) is None


def test_the_profile_looks_at_the_loops_thread(monkeypatch):
    opened = []

    def looked_at(path, *args):
        opened.append(str(path))
        raise OSError

    async def until_looked_at(n):
        while not opened:
            await asyncio.sleep(0.001)

    monkeypatch.setattr(clocks, "_reader", lambda thread: None)
    monkeypatch.setattr(clocks, "open", looked_at, raising=False)
    monkeypatch.setattr("sys.getswitchinterval", lambda: 1e9)  # no look is late enough
    monkeypatch.setattr("sys._is_gil_enabled", lambda: True, raising=False)
    job = Job([1], until_looked_at, coroutine=until_looked_at, task_is_coroutine=True)
    with CoroutineSession(job, 1, until_looked_at) as session:
        profile(session, 0.0)
        assert {int(path.split("/")[4]) for path in opened} == {session.threads[0]}


def test_who_releases_the_gil_often_but_for_a_moment_still_holds_it():
    def reads(n):
        for _ in range(20):
            os.stat("/")
            sum(range(2000))

    with SerialSession(Job([1] * 10, reads), 1) as session:
        if clocks._reader(session.threads[0]) is None:
            pytest.skip("who holds the GIL cannot be read here")
        seen = profile(session, 0.1)
    assert seen.gil > seen.nogil


def test_what_was_not_seen_is_labelled_so():
    busy = serial(worker_cpu=1.0)
    bound = find_bound(busy, 1.0, 1e-5, None, has_gil=True)
    assert (bound.kind, bound.inferred) == ("cpu", True)
    assert "inferred" in bound.why
    assert "held the GIL for" not in bound.why
    bound = find_bound(busy, 1.0, 1e-5, seen(), has_gil=True)
    assert (bound.kind, bound.inferred) == ("cpu", False)
    assert "held the GIL for 100%" in bound.why
    assert find_bound(busy, 1.0, 1e-5, seen(0.1, 0.9), has_gil=True).kind == "cpu-nogil"
    bound = find_bound(busy, 1.0, 1e-5, None, has_gil=False)
    assert (bound.kind, bound.inferred) == ("cpu", False)
    assert "GIL" not in bound.why


def test_a_task_is_judged_by_what_it_takes_and_not_by_its_first_run():
    assert find_bound(serial(worker_cpu=1.0), 1e-6, 1e-5, None, True).kind == "overhead"
    assert find_bound(serial(worker_cpu=1.0), 1e-4, 1e-5, seen(), True).kind == "cpu"
    bound = find_bound(serial(worker_cpu=1.0), 0.0, 1e-5, None, True)
    assert bound.why == "there was no task to run"


@pytest.mark.parametrize(
    ("kind", "has_gil", "native", "expected"),
    [
        ("cpu-nogil", True, 1.9, "memory"),
        ("cpu", True, 1.0, "cpu"),  # bytecode touches few of its items' bytes
        ("mixed", True, 1.0, "mixed"),
        ("cpu", False, 1.2, "memory"),
        ("cpu", False, 1.9, "cpu"),  # gains more than memory would let it
        ("cpu", False, None, "cpu"),
    ],
)
def test_bytes_of_items_count_only_for_who_can_have_streamed_them(kind, has_gil, native, expected):
    items, copy = [bytearray(1 << 23)] * 8, Copying(rate=1e9, speedup=1.2)
    # In nine tenths of its time another program had the core.
    quick = serial(wall=0.1, worker_cpu=0.01, preempted=0.09)
    bound = memory_bound(Bound(kind, "seen"), quick, items, native, copy, 1.9, has_gil)
    assert bound.kind == expected
    assert bound.inferred == (expected == "memory")
    slow = serial(worker_cpu=1.0)
    few = memory_bound(Bound(kind, "seen"), slow, items, native, copy, 1.2, has_gil)
    assert few.kind == kind


def test_what_others_compute_for_a_task_is_no_waiting():
    waiting = serial(worker_cpu=0.01)
    assert find_bound(waiting, 1.0, 1e-5, None, True).kind == "io"
    working = serial(worker_cpu=0.01, beside=0.9)
    bound = find_bound(working, 1.0, 1e-5, None, True)
    assert bound.kind == "mixed"
    assert "90% of a core" in bound.why
    both = find_bound(serial(worker_cpu=1.0, beside=0.9), 1.0, 1e-5, seen(0.0, 1.0), True)
    assert both.kind == "cpu-nogil"
    assert "used 90% of a core beside it" in both.why


def test_shares_that_nobody_saw_are_inferred():
    cost = Cost(wall=1.0, cpu=0.1, worker_cpu=0.1)
    for waits, expected in (
        (Waits(0.9, 0.0), {"io_wait", "lock_wait"}),
        (Waits(0.9, 0.5, seen=True), set()),
    ):
        assert set(find_shares("serial", cost, 1, 0.0, waits)[1]) == expected
    assert "io_wait" in find_shares("loop", cost, 1, 0.0, Waits(0.9, 0.0, seen=True))[1]
    assert Waits.of(cost, seen(asked=False), True).seen is False


def test_nobody_waits_for_the_gil_for_longer_than_others_had_it():
    # Tasks that wait for longer than they do in serial, but hardly run.
    cost = Cost(wall=1.0, cpu=0.02, busy=2.0, busy_cpu=0.02, metered=2)
    shares, inferred = find_shares("thread", cost, 2, 0.0, Waits(1.0, 0.0))
    assert shares["gil_wait"] <= 0.011
    assert shares["io_wait"] > 0.9
    assert {"gil_wait", "io_wait"} <= set(inferred)
    # And those that do run.
    cost = Cost(wall=1.0, cpu=1.0, busy=2.0, busy_cpu=1.0, metered=2)
    shares, _ = find_shares("thread", cost, 2, 0.0, Waits(0.0, 0.0))
    assert shares["gil_wait"] == pytest.approx(0.5)


def test_workers_that_wait_for_tasks_do_not_wait_for_a_lock_in_them(monkeypatch):
    class Seen(SerialSession):
        def spent(self):
            meter = {"busy": 0.0, "cpu": 0.0, "delayed": 0.0, "pickling": 0.0}
            return [{**meter, "chunks": 1.0, "last": 0.0}]

    class Sampler:
        def __init__(self, hz):
            pass

        def stop(self):
            pass

        def totals(self):
            return {threading.get_native_id(): [0, 0, 5, 1, 0, 0, 0, 0, 0]}  # ns

    core = importlib.import_module("plait._core")
    monkeypatch.setattr(core, "Sampler", Sampler)
    monkeypatch.setattr("sys.platform", "linux")
    turn = take_turn(lambda job, workers: Seen(job, 1), Job([1], abs), 1, sample=True)
    assert turn.seen["wait_lock"] == 0
    assert turn.seen["wait_gil"] == pytest.approx(5e-9)


def report_of(**figures):
    row = Row("serial", True, None, 1.0, 0.1, 1.0, 0.0, 1.0, {"compute": 1.0}, runs=3)
    values = {
        "what": "work",
        "description": "work",
        "items": 10,
        "workers": 2,
        "repeats": 3,
        "rows": [row],
        "best": "serial",
        "bound": "cpu",
        "bound_why": "as measured",
        "cells": [Cell(a, b) for a in ("python", "rust") for b in ("serial", "parallel")],
        "verdict": "",
        "environment": {"gil": "on"},
    }
    return Report(**{**values, **figures})


def gaining(gain):
    cells = report_of().cells
    cells[0] = Cell("python", "serial", "serial", 1.0, 1.0)
    cells[1] = Cell("python", "parallel", "threading", 1.0 / gain, gain)
    row = Row("threading", True, None, 1.0 / gain, 0.1, 1.0, 0.0, gain, {"compute": 1.0}, runs=3)
    return {"cells": cells, "rows": [*report_of().rows, row]}


def test_the_verdict_says_that_the_gil_was_held_only_if_it_was_seen():
    assert "holds the GIL, so threads take turns" in write_verdict(report_of())
    inferred = write_verdict(report_of(bound_inferred=True))
    assert "and holds the GIL" not in inferred
    assert "inferred: nobody could look" in inferred
    without = write_verdict(report_of(environment={"gil": "off"}))
    assert "without a GIL" in without
    assert "take turns" not in without


def test_a_ceiling_that_was_passed_is_none():
    assert "The ceiling for 2 workers" in write_verdict(report_of(ceiling=1.9, **gaining(1.8)))
    said = write_verdict(report_of(ceiling=1.1, **gaining(1.8)))
    assert "The ceiling for" not in said
    assert "ceiling is not known" in said


def test_what_is_advised_fits_what_was_measured():
    scaling = Scaling("threading", {1: 1.0, 2: 1.0}, 1.0)
    even = BreakEven("plait.process", 1e-5, 2e-5, 0.01)
    once = report_of(items=1, bound="io", scaling=scaling, **gaining(1.0))
    assert "Amdahl" not in write_verdict(once)
    assert "one cannot be shared" in write_verdict(once)
    blocked = write_verdict(report_of(bound="io", **gaining(1.0)))
    assert "they wait for each other (inferred" in blocked
    assert "more in flight" not in blocked
    assert "more in flight" in write_verdict(report_of(bound="io", **gaining(1.9)))
    none = write_verdict(report_of(items=0, bound="overhead", break_even=even, **gaining(1.6)))
    assert "so small" not in none
    assert "gain" not in none
    assert "pay" not in none
    assert "next to no data" in write_verdict(report_of(break_even=even))
    assert re.search(r"serial part of 100% \(inferred\)", write_verdict(report_of(scaling=scaling)))


def test_a_saved_report_says_whether_its_bound_was_inferred():
    report = report_of(bound_inferred=True)
    data = report.to_dict()
    assert Report.from_dict(data).bound_inferred
    del data["bound_inferred"]  # of an earlier version
    assert not Report.from_dict(data).bound_inferred


def pid_of(item):
    return os.getpid()


def test_the_workers_whose_clocks_are_read_are_those_that_work():
    pytest.importorskip("joblib")
    session = models()["joblib"].open(Job([0] * 8, pid_of), 2)
    with session:
        before = set(session.pids)
        results = set(session.run())
        assert len(before) == 2
        assert results <= before
        assert set(session.pids) == before  # to ask for them ended none


def test_a_row_has_the_bound_of_the_work_that_it_did():
    entry = serial(worker_cpu=0.0, preempted=0.25)
    row = entry.row(1.0, Waits(0.75, 0.0))
    assert row.shares["io_wait"] == pytest.approx(0.75)
    assert row.shares["queueing"] == pytest.approx(0.25)
    assert "io_wait" in row.inferred


def test_a_reason_is_one_short_line():
    assert say(ValueError("a\nb")) == "ValueError: a b"
    assert len(say(ValueError("x" * 9000))) < 500
    # As dask raises what a worker raised.
    far = ValueError('it is bad\n\nTraceback\n---------\n  File "x.py", line 1')
    assert say(far) == "ValueError: it is bad"
