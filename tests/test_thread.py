"""plait.Thread: a threading.Thread that hands back its target's value."""

from __future__ import annotations

import threading
import traceback

import plait
import pytest


@pytest.fixture
def hooked(monkeypatch):
    """What threading.excepthook was given."""
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    return seen


def test_is_a_threading_thread():
    inside = []
    gate = threading.Event()

    def target():
        inside.append(plait.current_thread())
        gate.wait()

    thread = plait.Thread(target=target, name="weft", daemon=True)
    assert isinstance(thread, threading.Thread)
    assert thread.daemon
    thread.start()
    try:
        assert thread in threading.enumerate()
    finally:
        gate.set()
    assert thread.result() is None
    assert inside == [thread]
    assert thread.name == "weft"


def test_result_is_the_targets_value_each_time():
    thread = plait.Thread(target=divmod, args=(7, 2))
    thread.start()
    assert thread.result() == (3, 1)
    thread.join()
    assert thread.result(0) == (3, 1)


def test_result_raises_the_targets_exception_with_its_traceback(hooked):
    def fails():
        raise KeyError("deep")

    thread = plait.Thread(target=fails)
    thread.start()
    for _ in range(2):
        with pytest.raises(KeyError, match="deep") as caught:
            thread.result()
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[-1] == "fails"
        assert names.count("fails") == 1
    assert hooked == [caught.value]


def test_result_waits_no_longer_than_its_timeout():
    gate = threading.Event()
    thread = plait.Thread(target=gate.wait, name="slow")
    thread.start()
    try:
        with pytest.raises(plait.errors.TaskTimeout, match="slow"):
            thread.result(0.01)
        with pytest.raises(TimeoutError):
            thread.result(-1)
    finally:
        gate.set()
    assert thread.result() is True


def test_result_before_start_is_an_error():
    with pytest.raises(RuntimeError, match="before it is started"):
        plait.Thread(target=int).result()


def test_a_second_start_is_an_error_and_changes_nothing():
    thread = plait.Thread(target=int)
    thread.start()
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
    assert thread.result() == 0


def test_result_of_an_overridden_run(hooked):
    class Returns(plait.Thread):
        def run(self):
            return "own"

    class Delegates(plait.Thread):
        def run(self):
            super().run()

    class Raises(plait.Thread):
        def run(self):
            raise OSError("run")

    threads = [Returns(), Delegates(target=lambda: "target's"), Raises()]
    for thread in threads:
        thread.start()
    assert threads[0].result() == "own"
    assert threads[1].result() == "target's"
    with pytest.raises(OSError, match="run"):
        threads[2].result()
    assert len(hooked) == 1


@pytest.mark.parametrize("target", [3, "print", sum([1])])
def test_a_target_that_is_not_callable_is_refused_with_a_hint(target):
    with pytest.raises(TypeError, match="without parentheses") as caught:
        plait.Thread(target=target)
    assert repr(target) in str(caught.value)


def test_no_target_at_all_is_fine():
    thread = plait.Thread()
    thread.start()
    assert thread.result() is None


def test_a_start_that_failed_may_be_repeated(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    thread = plait.Thread(target=abs, args=(-3,))
    for name in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, name, fail, raising=False)
    with pytest.raises(RuntimeError, match="new thread"):
        thread.start()
    monkeypatch.undo()
    thread.start()
    assert thread.result(30) == 3


def test_a_subclass_that_forgets_to_initialize_is_told():
    class Forgetful(plait.Thread):
        def __init__(self):
            pass

    thread = Forgetful()
    with pytest.raises(RuntimeError, match="not called"):
        thread.start()
    with pytest.raises(RuntimeError, match="before it is started"):
        thread.result()
