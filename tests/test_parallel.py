"""plait.map on every engine, and what explain() tells of it."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import plait
import pytest
from conftest import PATIENCE

ENGINES = ["serial", "thread", "process", "auto"]
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return seconds


def fail_at_three(x):
    if x == 3:
        raise LookupError("three")
    return x


@pytest.mark.parametrize("how", ENGINES)
def test_results_are_in_order(how):
    assert plait.map(lambda x: x * x, range(50), how=how) == [x * x for x in range(50)]
    assert plait.map(str, [], how=how) == []
    assert plait.map(str, iter("ab"), how=how, workers=1) == ["a", "b"]
    assert plait.map(str, range(7), how=how, chunksize=3) == list("0123456")


@pytest.mark.parametrize("how", ENGINES)
def test_unordered_results_are_all_there(how):
    assert sorted(plait.map(abs, range(-40, 0), how=how, ordered=False)) == list(range(1, 41))


@pytest.mark.parametrize("how", ENGINES)
def test_an_exception_comes_through(how):
    with pytest.raises(LookupError, match="three"):
        plait.map(fail_at_three, range(20), how=how)


def test_after_an_exception_nothing_more_begins():
    began = []

    def fn(x):
        began.append(x)
        raise LookupError(x)

    with pytest.raises(LookupError):
        plait.map(fn, range(1000), how="thread", workers=2, chunksize=1)
    assert len(began) <= 4


def test_threads_work_at_once_and_see_the_callers_context():
    user = contextvars.ContextVar("user")
    user.set("ada")
    barrier = threading.Barrier(3)

    def fn(_):
        barrier.wait(PATIENCE)
        return user.get(), threading.current_thread().name

    results = plait.map(fn, range(3), how="thread", workers=3)
    assert {name for name, _ in results} == {"ada"}
    assert all(thread.startswith("plait-thread-") for _, thread in results)
    assert len({thread for _, thread in results}) == 3


def test_threads_may_nest():
    def outer(x):
        return sum(plait.map(lambda y: x * y, range(4), how="thread", workers=2))

    assert plait.map(outer, range(20), how="thread", workers=2) == [6 * x for x in range(20)]


def test_processes_are_others():
    pids = plait.map(lambda _: os.getpid(), range(4), how="process", workers=2, chunksize=1)
    assert os.getpid() not in pids
    assert plait.explain().how == "process"
    assert plait.explain().workers == 2


def test_processes_end_with_an_exception():
    def fn(x):
        if x == 0:
            raise LookupError
        time.sleep(600)

    before = plait.active_children()  # such as those of aio.to_process
    with pytest.raises(LookupError):
        plait.map(fn, range(4), how="process", workers=2, chunksize=1)
    assert set(plait.active_children()) <= set(before)


def test_what_cannot_be_sent_is_named_at_once():
    lock = threading.Lock()
    with pytest.raises(plait.errors.SerializationError, match="fn"):
        plait.map(lambda x: lock, range(4), how="process")
    with pytest.raises(plait.errors.SerializationError, match=r"items\[1\]"):
        plait.map(id, [1, lock], how="process", chunksize=1)


def test_any_executor_will_do():
    with ThreadPoolExecutor(2) as pool:
        assert plait.map(str, range(5), how=pool) == list("01234")
        assert plait.explain().how == "ThreadPoolExecutor"
        assert plait.explain().workers is None
        with pytest.raises(LookupError):
            plait.map(fail_at_three, range(20), how=pool)
        assert pool.submit(int).result() == 0


def test_auto_keeps_short_work_in_place():
    plait.map(abs, range(100))
    told = plait.explain()
    assert told.how == "serial"
    assert str(told).startswith("serial: 100 items; ")


def test_auto_runs_what_waits_on_threads():
    plait.map(time.sleep, [0.01] * 20)
    told = plait.explain()
    assert (told.how, told.sampled) == ("thread", 1)
    assert "waiting" in told.reason


@pytest.mark.skipif(plait.cpu_count() < 2, reason="one core")
def test_auto_runs_what_computes_on_every_core():
    plait.map(spin, [0.02] * 40)
    assert plait.explain().how == ("process" if GIL else "thread")
    assert "GIL" in plait.explain().reason


@pytest.mark.skipif(not GIL or plait.cpu_count() < 2, reason="threads do it")
def test_auto_says_why_processes_cannot_do_it():
    lock = threading.Lock()

    def fn(x):
        with lock:
            return spin(x)

    plait.map(fn, [0.01] * 40)
    assert plait.explain().how == "serial"
    assert "fn" in plait.explain().reason


def test_auto_with_one_worker_is_serial():
    plait.map(spin, [0.005] * 4, workers=1)
    assert plait.explain().how == "serial"


def test_each_thread_has_its_own_explanation():
    plait.map(abs, [1], how="serial")

    def other():
        with pytest.raises(RuntimeError, match="not been called"):
            plait.explain()
        return True

    thread = plait.Thread(target=other)
    thread.start()
    assert thread.result()


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"how": "warp"}, ValueError, "'warp'"),
        ({"how": "warp"}, ValueError, "'auto', 'serial', 'thread', 'process'"),
        ({"workers": 0}, ValueError, "workers must be at least 1, got 0"),
        ({"workers": -3}, ValueError, "-3"),
        ({"chunksize": 0}, ValueError, "chunksize"),
        ({"fn": 3}, TypeError, "without parentheses"),
        ({"items": 3}, TypeError, "items must be iterable, got 3"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(arguments, error, told):
    ran = []
    with pytest.raises(error, match=told):
        plait.map(**{"fn": ran.append, "items": [1], **arguments})
    assert ran == []


def test_progress_shows_a_bar_on_stderr(capsys):
    pytest.importorskip("rich")
    assert plait.map(str, range(3), how="thread", progress=True) == ["0", "1", "2"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3/3" in shown.err


def test_where_no_thread_can_be_started_the_work_is_done_in_place(run_script):
    done = run_script(
        """
        import _thread, plait
        from plait import _core
        def refuse(*_): raise RuntimeError("can't start new thread")
        _thread.start_new_thread = refuse
        print(plait.map(abs, [-1, 2, -3], how="thread", workers=2))
        """
    )
    assert done.stdout == "[1, 2, 3]\n"
