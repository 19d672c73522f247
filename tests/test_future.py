"""plait.Future: the standard library's contract, executors in Python and a real pool, races."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import copy
import functools
import gc
import logging
import operator
import os
import pickle
import sys
import threading
import traceback
import types
import weakref
from concurrent.futures import CancelledError, InvalidStateError

import plait
import pytest
from conftest import PATIENCE, until
from plait import _core
from plait.errors import SerializationError

MAKERS = {
    "python": plait.Future,
    "executor": lambda: _core.Promise().future(plait.Future),
}


@pytest.fixture(params=MAKERS)
def make(request):
    """Makes futures: as Python code does, and as an executor does."""
    return MAKERS[request.param]


class Script:
    """An executor's answers."""

    def __init__(self, withdraw=False, has_begun=False, stop=False):
        self.asked = []
        self.answers = {"withdraw": withdraw, "has_begun": has_begun, "stop": stop}

    def __getattr__(self, name):
        if name not in ("withdraw", "has_begun", "stop"):
            raise AttributeError(name)

        def answer():
            self.asked.append(name)
            return self.answers[name]

        return answer

    def wait(self):
        self.asked.append("wait")


def executors(source=None):
    """An executor's half of a future, and the future."""
    promise = _core.Promise(source)
    return promise, promise.future(plait.Future)


def complete(promise, content=b"1", decode=int, **options):
    """False: it was done before."""
    return promise.complete(functools.partial(decode, content), **options)


def run_threads(*targets):
    threads = [plait.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return [thread.result(PATIENCE) for thread in threads]


# The standard library's contract.


def test_is_the_standard_librarys(make):
    assert isinstance(make(), concurrent.futures.Future)
    assert issubclass(plait.Future, concurrent.futures.Future)
    assert plait.wait is concurrent.futures.wait
    assert plait.as_completed is concurrent.futures.as_completed
    assert plait.Future[int].__origin__ is plait.Future


def test_takes_no_arguments():
    with pytest.raises(TypeError):
        plait.Future(1)


def test_a_result(make):
    future = make()
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert future.set_running_or_notify_cancel()
    assert future.running()
    value = [1]
    future.set_result(value)
    assert future.result() is value
    assert future.result(timeout=0) is value
    assert future.exception() is None
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)


def test_an_exception_keeps_the_traceback_it_came_with(make):
    def fails():
        raise KeyError("deep")

    future = make()
    try:
        fails()
    except KeyError as error:
        future.set_exception(error)
    seen = []
    for _ in range(3):
        with pytest.raises(KeyError, match="deep") as caught:
            future.result()
        assert caught.value is future.exception()
        seen.append([frame.name for frame in traceback.extract_tb(caught.value.__traceback__)])
    assert seen[0][-1] == "fails"
    assert seen[0] == seen[1] == seen[2]


def test_an_exception_class_and_what_is_no_exception(make):
    future = make()
    future.set_exception(ValueError)
    with pytest.raises(ValueError, match=r"^$"):
        future.result()
    future = make()
    future.set_exception("text")
    with pytest.raises(TypeError):
        future.result()
    future = make()
    future.set_exception(None)
    assert future.result() is None


def test_it_is_completed_once(make):
    future = make()
    future.set_result(1)
    with pytest.raises(InvalidStateError, match=r"FINISHED: <Future at 0x[0-9a-f]+ state=finished"):
        future.set_exception(ValueError())
    assert future.result() == 1


def test_cancel(make):
    future, seen = make(), []
    future.add_done_callback(seen.append)
    assert future.cancel()
    assert future.cancel()
    assert seen == [future]
    assert future.cancelled()
    assert future.done()
    with pytest.raises(CancelledError):
        future.result()
    with pytest.raises(CancelledError):
        future.exception()
    assert not future.set_running_or_notify_cancel()
    with pytest.raises(InvalidStateError):
        future.set_result(1)


def test_cancel_is_too_late(make):
    future = make()
    future.set_running_or_notify_cancel()
    assert not future.cancel()
    assert not future.cancel(running=True)  # nobody could end it
    future.set_result(1)
    assert not future.cancel()
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()


@pytest.mark.parametrize("timeout", [0, -1, 0.001, -0.0])
def test_a_timeout(make, timeout):
    with pytest.raises(concurrent.futures.TimeoutError):
        make().result(timeout)
    with pytest.raises(concurrent.futures.TimeoutError):
        make().exception(timeout=timeout)


def test_what_is_no_timeout(make):
    with pytest.raises(ValueError, match="nan"):
        make().result(float("nan"))
    with pytest.raises(TypeError):
        make().result("1")


@pytest.mark.parametrize("timeout", [1e300, float("inf"), None])
def test_a_wait_of_any_length_ends(make, timeout):
    future, ready = make(), threading.Event()

    def waits():
        ready.set()
        return future.result(timeout)

    def sets():
        ready.wait()
        future.set_result(5)

    assert run_threads(waits, sets) == [5, None]


def test_callbacks_are_called_in_order_and_their_errors_logged(make, caplog):
    future, seen = make(), []

    def fails(_):
        raise ValueError("of a callback")

    for number in range(3):
        future.add_done_callback(lambda done, number=number: seen.append((done, number)))
        future.add_done_callback(fails)
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        future.set_result(None)
        future.add_done_callback(fails)
    assert seen == [(future, 0), (future, 1), (future, 2)]
    assert len(caplog.records) == 4
    assert caplog.records[0].getMessage().startswith("exception calling callback for <Future")
    assert "of a callback" in caplog.text


def test_a_callback_that_exits_does_not_stop_the_others(make):
    future, seen = make(), []
    future.add_done_callback(lambda _: sys.exit(3))
    future.add_done_callback(seen.append)
    with pytest.raises(SystemExit):
        future.set_result(None)
    assert seen == [future]


def test_a_callback_may_add_another(make):
    future, seen = make(), []
    future.add_done_callback(lambda done: done.add_done_callback(seen.append))
    future.set_result(None)
    assert seen == [future]


def test_repr_names_the_class(make):
    class Special(plait.Future):
        pass

    assert repr(Special()).startswith("<Special at 0x")
    future = make()
    assert repr(future) == f"<Future at {id(future):#x} state=pending>"
    future.set_exception(OSError())
    assert repr(future).endswith(" state=finished raised OSError>")


def test_subclasses_have_state_of_their_own():
    class Named(plait.Future):
        def __init__(self, name, *, size=1):
            super().__init__()
            self.name, self.size = name, size

    future = Named("warp", size=2)
    future.set_result(1)
    assert (future.name, future.size, future.result()) == ("warp", 2, 1)


@pytest.mark.parametrize("copies", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_does_not_travel(make, copies):
    with pytest.raises(TypeError, match=r"cannot pickle 'Future' object: .* result\(\)"):
        copies(make())


def test_a_snapshot(make):
    future = make()
    assert future._get_snapshot() == (False, False, None, None)
    future.set_result(3)
    assert future._get_snapshot() == (True, False, 3, None)
    future = make()
    future.cancel()
    assert future._get_snapshot() == (True, True, None, None)


def test_what_is_assigned_counts(make):
    future = make()
    future._state = "FINISHED"
    future._result = 42
    assert future.result(0) == 42
    assert future._state == "FINISHED"
    with pytest.raises(ValueError, match="'DONE' is no state"):
        future._state = "DONE"


def test_who_waits_sees_what_is_assigned(make):
    future, ready = make(), threading.Event()

    def waits():
        ready.set()
        return future.exception()

    def assigns():
        ready.wait()
        with future._condition:
            future._state = "FINISHED"
            future._exception = KeyError()
            future._condition.notify_all()

    assert isinstance(run_threads(waits, assigns)[0], KeyError)


def test_callbacks_can_be_read_and_replaced(make):
    future, seen = make(), []
    future.add_done_callback(print)
    assert future._done_callbacks == [print]
    future._done_callbacks = [seen.append]
    future.set_result(1)
    assert seen == [future]


# Executors.


def test_a_result_is_decoded_once_by_who_asks():
    promise, future = executors()
    threads = []

    def decode(content):
        threads.append(threading.current_thread())
        return [content]

    assert complete(promise, b"x" * 100, decode)
    assert future.done()
    assert threads == []
    results = run_threads(*[future.result] * 8)
    assert results[0] == [b"x" * 100]
    assert all(result is results[0] for result in results)
    assert len(threads) == 1


def test_decoding_that_fails_is_the_tasks_exception():
    promise, future = executors()
    complete(promise, b"not a number", int)
    with pytest.raises(ValueError, match="not a number") as first:
        future.result()
    assert future.exception() is first.value


def test_an_encoded_exception():
    promise, future = executors()
    complete(promise, b"x", KeyError, is_error=True)
    assert isinstance(future.exception(), KeyError)
    with pytest.raises(KeyError):
        future.result()


def test_decoding_is_not_tried_twice():
    # What was decoded in part may be gone: a result refers to memory that is used again.
    promise, future = executors()
    tries = []

    def decode(content):
        tries.append(content)
        raise KeyboardInterrupt

    complete(promise, b"", decode)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert tries == [b""]


def test_a_decoder_that_wants_the_result_does_not_hang():
    promise, future = executors()
    complete(promise, b"", lambda _: future.result())
    with pytest.raises(RuntimeError, match="decoded by this very thread"):
        future.result()


def test_it_is_told_once():
    promise, future = executors()
    seen = []
    future.add_done_callback(seen.append)
    assert complete(promise, b"7")
    assert seen == [future]
    assert not complete(promise, b"8")
    assert not promise.cancel()
    assert (future.result(), seen) == (7, [future])


def test_who_has_the_condition_sees_the_end_only_when_it_is_published():
    promise, future = executors()
    condition = future._condition
    with condition:
        assert future._state == "PENDING"
        publisher = plait.Thread(target=complete, args=(promise, b"7"))
        publisher.start()
        assert future.result(PATIENCE) == 7  # for that nobody needs the condition
        assert future.done()
        assert future._state == "RUNNING"  # the publisher waits for the condition
        assert future._result is None
        assert future._waiters == []  # looking does not change what is seen
        assert future._condition is condition
        assert future._state == "RUNNING"
        condition.wait()
        assert future._state == "FINISHED"
    assert publisher.result(PATIENCE)


@pytest.mark.parametrize("times", [1, 2])
def test_who_completes_does_not_wait_for_who_has_the_condition(times):
    promise, future = executors()
    told, called = [], []
    future.add_done_callback(called.append)
    future._waiters.append(types.SimpleNamespace(add_result=told.append))
    for _ in range(times):  # as a ^C in `cf.wait` leaves it: taken
        future._condition.acquire()
    publisher = plait.Thread(target=complete, args=(promise, b"7"))
    publisher.start()
    assert publisher.result(PATIENCE)
    assert (called, told, future._state) == ([future], [], "RUNNING")
    for _ in range(times):
        future._condition.release()
    assert (called, told, future._state) == ([future], [future], "FINISHED")
    assert not future._condition._is_owned()


def test_the_condition_after_an_interrupt_is_as_before():
    condition = plait.Future()._condition
    for take in [condition.acquire, condition.__enter__]:
        with pytest.raises(KeyboardInterrupt):
            # One call after the other with no bytecode between, where the signal would be seen.
            list(map(operator.call, [_thread.interrupt_main, take]))
        assert not condition._is_owned()


def test_cancel_asks_the_executor():
    source = Script(withdraw=True)
    promise, future = executors(source)
    assert future.cancel()
    assert future._state == "CANCELLED_AND_NOTIFIED"
    assert source.asked == ["withdraw"]
    assert not complete(promise)


def test_cancel_of_a_running_task():
    source = Script(has_begun=True, stop=True)
    promise, future = executors(source)
    assert future.running()
    assert not future.cancel()
    assert "stop" not in source.asked
    assert future.cancel(running=True)
    assert future.cancelled()
    assert not future.running()
    assert not complete(promise)


def test_cancel_when_the_executor_cannot():
    _, future = executors(Script(has_begun=True))
    assert not future.cancel(running=True)
    assert not future.done()


def test_an_executor_cancels():
    promise, future = executors()
    waiting = plait.Thread(target=plait.wait, args=([future],))
    waiting.start()
    assert promise.cancel()
    assert waiting.result(PATIENCE).done == {future}
    assert future.cancelled()


def test_the_executor_waits():
    source = Script()
    _, future = executors(source)
    with pytest.raises(TimeoutError):
        future.result(0)
    assert source.asked == ["wait"]


def test_a_future_that_is_done_keeps_no_executor():
    source = Script()
    gone = weakref.ref(source)
    promise, future = executors(source)
    del source
    complete(promise)
    gc.collect()
    assert gone() is None
    assert future.result() == 1


# A real pool.


@pytest.fixture
def pool():
    with plait.ProcessPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def gate(tmp_path):
    """What holds tasks that wait for it; called, it lets one pass."""
    path = tmp_path / "gate"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR)

    def open_gate():
        os.write(end, b"x")

    open_gate.path = str(path)
    yield open_gate
    os.close(end)


def pass_gate(path, value=1):
    with open(path, "rb", buffering=0) as file:
        file.read(1)
    return value


def fail(*args):
    raise KeyError(*args)


decoded = []  # in this process: by which threads


def note_decoding(value):
    decoded.append(threading.current_thread())
    return value


class Noted:
    def __init__(self, value, decode=note_decoding):
        self.value, self.decode = value, decode

    def __reduce__(self):
        return self.decode, (self.value,)


def test_the_states_of_a_task(pool, gate):
    running, waiting = pool.submit(pass_gate, gate.path), pool.submit(pass_gate, gate.path, 2)
    until(running.running)
    assert running._state == "RUNNING"
    assert (waiting.running(), waiting.done(), waiting._state) == (False, False, "PENDING")
    assert repr(waiting).endswith(" state=pending>")
    assert not running.cancel()
    for late in (running, waiting):
        with pytest.raises(TimeoutError):
            late.result(0)
        with pytest.raises(TimeoutError):
            late.exception(0.001)
    gate()
    assert running.result(PATIENCE) == 1
    until(waiting.running)
    gate()
    assert waiting.result(PATIENCE) == 2
    assert (waiting.running(), waiting.done(), waiting._state) == (False, True, "FINISHED")
    assert waiting._get_snapshot() == (True, False, 2, None)


def test_a_task_is_cancelled_before_it_begins(pool, gate):
    running, waiting = pool.submit(pass_gate, gate.path), pool.submit(pass_gate, gate.path)
    until(running.running)
    seen = []
    waiting.add_done_callback(seen.append)
    assert waiting.cancel()
    assert seen == [waiting]
    assert waiting._state == "CANCELLED_AND_NOTIFIED"
    gate()
    assert running.result(PATIENCE) == 1
    gate()
    assert pool.submit(pass_gate, gate.path, "the next").result(PATIENCE) == "the next"


def test_a_running_task_is_cancelled(pool, gate):
    running, waiting = pool.submit(pass_gate, gate.path), pool.submit(abs, -3)
    until(running.running)
    assert running.cancel(running=True)
    assert running.cancelled()
    assert not running.running()
    assert waiting.result(PATIENCE) == 3


def test_a_tasks_exception_is_told_without_decoding(pool, gate):
    failing, waiting = pool.submit(fail, 1), pool.submit(pass_gate, gate.path)
    done = plait.wait([failing, waiting], 30, "FIRST_EXCEPTION").done
    assert done == {failing}
    first = failing.exception()
    assert isinstance(first, KeyError)
    with pytest.raises(KeyError):
        failing.result()
    assert failing.exception() is first
    gate()
    assert waiting.result(PATIENCE) == 1


def test_a_tasks_result_is_decoded_once_by_who_asks(pool):
    decoded.clear()
    future = pool.submit(Noted, [5])
    assert plait.wait([future], PATIENCE).done
    assert decoded == []
    results = run_threads(*[future.result] * 8)
    assert results[0] == [5]
    assert all(result is results[0] for result in results)
    assert len(decoded) == 1


def test_a_result_that_fails_to_decode(pool):
    future = pool.submit(Noted, "text", int)
    with pytest.raises(SerializationError, match="could not be unpickled") as caught:
        future.result(PATIENCE)
    assert future.exception() is caught.value
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_dropped_future_is_gone_though_its_task_runs(pool, gate):
    future = pool.submit(pass_gate, gate.path)
    gone = weakref.ref(future)
    del future
    assert gone() is None
    seen = threading.Event()
    watched = pool.submit(pass_gate, gate.path)
    watched.add_done_callback(lambda _: seen.set())
    gone = weakref.ref(watched)
    del watched
    assert gone() is not None  # it is to be told
    gate()
    gate()
    assert seen.wait(PATIENCE)
    until(lambda: gone() is None)


# Races.


def race(rounds):
    """Calls the functions of each round at once; returns what they returned."""
    start = threading.Barrier(len(rounds[0]))

    def run(lane):
        results = []
        for calls in rounds:
            start.wait(PATIENCE)
            results.append(calls[lane]())
        return results

    lanes = run_threads(*[functools.partial(run, lane) for lane in range(len(rounds[0]))])
    return list(zip(*lanes, strict=True))


@pytest.mark.parametrize("kind", ["python", "pool"])
def test_every_waiter_and_callback_is_told_once(kind, pool, gate):
    rounds, pairs = [], []
    for _ in range(300):
        if kind == "python":
            promise, future = executors()
            finish = functools.partial(complete, promise)
        else:
            future, finish = pool.submit(pass_gate, gate.path), gate
        seen = []

        def add(future=future, seen=seen):
            for _ in range(5):
                future.add_done_callback(seen.append)

        rounds.append(
            [
                finish,
                functools.partial(plait.wait, [future]),
                lambda future=future: list(plait.as_completed([future])),
                future.result,
                add,
                add,
            ]
        )
        pairs.append((future, seen))
    for (future, seen), results in zip(pairs, race(rounds), strict=True):
        _, waited, in_order, result, *_ = results
        assert waited.done == {future}
        assert in_order == [future]
        assert result == 1
        # The pool's driver may call back after result() has returned.
        until(lambda seen=seen: len(seen) >= 10)
        assert seen == [future] * 10


def test_complete_and_cancel_one_wins():
    rounds, pairs = [], []
    for _ in range(300):
        (promise, future), seen = executors(), []
        future.add_done_callback(seen.append)
        rounds.append([functools.partial(complete, promise), future.cancel])
        pairs.append((future, seen))
    for (future, seen), (completed, cancelled) in zip(pairs, race(rounds), strict=True):
        assert cancelled is not completed
        assert future.cancelled() is cancelled
        assert seen == [future]


def test_begin_and_cancel_one_wins(pool, gate):
    rounds, parts = [], []
    for _ in range(100):
        held, future, seen = pool.submit(pass_gate, gate.path), pool.submit(abs, -5), []
        future.add_done_callback(seen.append)
        rounds.append([gate, future.cancel])
        parts.append((held, future, seen))
    for (held, future, seen), (_, cancelled) in zip(parts, race(rounds), strict=True):
        assert held.result(PATIENCE) == 1
        assert plait.wait([future], PATIENCE).done == {future}
        assert future.cancelled() is cancelled
        assert cancelled or future.result() == 5
        until(lambda seen=seen: seen)
        assert seen == [future]


def test_many_futures_are_waited_for():
    pairs = [executors() for _ in range(500)]
    futures = [future for _, future in pairs]

    def finish():
        for promise, _ in pairs:
            complete(promise)

    waited, in_order, _ = run_threads(
        lambda: plait.wait(futures), lambda: list(plait.as_completed(futures)), finish
    )
    assert waited.done == set(futures)
    assert sorted(map(id, in_order)) == sorted(map(id, futures))


def test_first_exception_is_told_without_decoding():
    (failing, failed), (_, pending) = executors(), executors()
    decoded = []
    waiting = plait.Thread(
        target=plait.wait, args=([failed, pending],), kwargs={"return_when": "FIRST_EXCEPTION"}
    )
    waiting.start()
    while not failed._waiters or not pending._waiters:
        pass
    assert complete(failing, b"", decoded.append, is_error=True)
    assert waiting.result(PATIENCE).done == {failed}
    assert decoded == []


# asyncio.


def test_await(make):
    async def main():
        future = make()
        tasks = [asyncio.ensure_future(awaits(future)) for _ in range(3)]
        await asyncio.sleep(0)
        threading.Thread(target=future.set_result, args=(8,)).start()
        assert await asyncio.gather(*tasks) == [8, 8, 8]
        assert await future == 8
        assert await asyncio.wrap_future(future) == 8

    async def awaits(future):
        return await future

    asyncio.run(main())


def test_await_raises(make):
    async def main():
        future = make()
        future.set_exception(KeyError("x"))
        with pytest.raises(KeyError):
            await future
        future = make()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await future

    asyncio.run(main())


def test_cancelling_the_task_cancels_the_future(make):
    async def main():
        future = make()

        async def awaits():
            await future

        task = asyncio.create_task(awaits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert future.cancelled()

    asyncio.run(main())


def test_await_needs_a_running_loop(make):
    with pytest.raises(RuntimeError, match="no running event loop"):
        next(make().__await__())


# Memory.


def test_a_dropped_future_is_gone_though_the_executor_goes_on(make):
    promise, future = executors()
    gone = weakref.ref(future)
    del future
    assert gone() is None
    assert complete(promise)
    future = make()
    gone = weakref.ref(future)
    del future
    assert gone() is None


def test_a_future_with_callbacks_lives_until_they_were_called():
    promise, future = executors()
    seen = []
    future.add_done_callback(lambda done: seen.append(done.result()))
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is not None
    complete(promise)
    assert seen == [1]
    gc.collect()
    assert gone() is None


def test_one_that_nobody_can_complete_is_collected():
    promise, future = executors()
    future.add_done_callback(id)
    gone = weakref.ref(future)
    del future, promise
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("hold", ["result", "exception", "callback"])
def test_cycles_are_collected(make, hold):
    future = make()
    if hold == "result":
        future.set_result([future])
    elif hold == "exception":
        error = ValueError()
        error.future = future
        future.set_exception(error)
        with pytest.raises(ValueError, match=r"^$"):
            future.result()
        del error
    else:
        future.add_done_callback(functools.partial(print, future))
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is None


# ^C.


def test_an_interrupt_ends_the_wait(run_script):
    done = run_script(
        """
        import _thread, os, signal, threading, time
        import plait

        def waits(pid):  # until the main thread sleeps in the kernel
            ready.wait()
            while open(f"/proc/{pid}/stat").read().split()[2] != "S":
                time.sleep(0.001)
            os.kill(pid, signal.SIGINT)

        pool = plait.ProcessPoolExecutor(1)
        for future in plait.Future(), pool.submit(time.sleep, 60):
            ready = threading.Event()
            threading.Thread(target=waits, args=(os.getpid(),)).start()
            try:
                ready.set()
                future.result()
            except KeyboardInterrupt:
                print("interrupted", future.done())
        assert future.cancel(running=True)
        """
    )
    assert done.stdout.split() == ["interrupted", "False"] * 2


def _holds_itself_as_value(future, value):
    value.append(future)


def _holds_itself_in_an_error(future, value):
    future.exception().future = future


def _holds_itself_by_attribute(future, value):
    future.itself = future


def _holds_itself_by_dict(future, value):
    vars(future)["itself"] = future


def _holds_itself_by_waiters(future, value):
    future._waiters.append(future)


def _holds_itself_by_assignment(future, value):
    future._result = future


@pytest.mark.parametrize(
    "hold",
    [
        _holds_itself_as_value,
        _holds_itself_in_an_error,
        _holds_itself_by_attribute,
        _holds_itself_by_dict,
        _holds_itself_by_waiters,
        _holds_itself_by_assignment,
    ],
)
def test_cycles_of_a_tasks_future_are_collected(hold):
    def task(value):
        if hold is _holds_itself_in_an_error:
            raise ValueError
        return value if hold is _holds_itself_as_value else 7

    value = []
    with plait.ThreadPoolExecutor(1) as pool:
        future = pool.submit(task, value)
    hold(future, value)
    alive = weakref.ref(future)
    del future, value
    gc.collect()
    assert alive() is None


@pytest.mark.skipif(hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled(), reason="GIL")
def test_a_tasks_future_costs_the_collector_nothing_as_long_as_it_refers_to_nothing():
    with plait.ThreadPoolExecutor(1) as pool:
        number, text, container = (pool.submit(make) for make in (int, str, list))
        called_back, cancelled = pool.submit(int), pool.submit(int)
        called_back.add_done_callback(id)
        cancelled.cancel()
    known = [number, text, container, called_back, cancelled]
    assert [gc.is_tracked(future) for future in known] == [False, False, True, True, False]
    number.name = "one"
    assert gc.is_tracked(number)
    assert vars(text) == {}
    assert gc.is_tracked(text)
    del number.name
    with pytest.raises(AttributeError):
        del number.name
    assert gc.is_tracked(plait.Future())


def test_a_tasks_future_that_goes_away_meanwhile_is_left_alone():
    with plait.ThreadPoolExecutor(2) as pool:
        for _ in range(200):
            weakref.finalize(pool.submit(list), os.sched_yield)
        gc.collect()
