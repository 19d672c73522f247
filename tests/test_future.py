"""plait.Future: the standard library's contract, executors that complete detached, races."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import functools
import gc
import logging
import pickle
import sys
import threading
import traceback
import weakref
from concurrent.futures import CancelledError, InvalidStateError

import plait
import pytest
from plait import _core

MAKERS = {
    "python": plait.Future,
    "executor": lambda: _core.Rehearsal().future(plait.Future),
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
    """An executor's side of a future, and the future."""
    rehearsal = _core.Rehearsal(source)
    return rehearsal, rehearsal.future(plait.Future)


def complete(rehearsal, content=b"1", decode=int, **options):
    """As an executor does it: detached, then attached if need be."""
    needs_publish = rehearsal.complete(content, decode, **options)
    if needs_publish:
        rehearsal.publish()
    return needs_publish


def run_threads(*targets):
    threads = [plait.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    return [thread.result(30) for thread in threads]


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
    rehearsal, future = executors()
    threads = []

    def decode(content):
        threads.append(threading.current_thread())
        return [content]

    assert complete(rehearsal, b"x" * 100, decode) is False
    assert future.done()
    assert threads == []
    results = run_threads(*[future.result] * 8)
    assert results[0] == [b"x" * 100]
    assert all(result is results[0] for result in results)
    assert len(threads) == 1


def test_decoding_that_fails_is_the_tasks_exception():
    rehearsal, future = executors()
    complete(rehearsal, b"not a number", int)
    with pytest.raises(ValueError, match="not a number") as first:
        future.result()
    assert future.exception() is first.value


def test_an_encoded_exception():
    rehearsal, future = executors()
    complete(rehearsal, b"x", KeyError, is_error=True)
    assert isinstance(future.exception(), KeyError)
    with pytest.raises(KeyError):
        future.result()


def test_decoding_is_not_tried_twice():
    # What was decoded in part may be gone: a result refers to memory that is used again.
    rehearsal, future = executors()
    tries = []

    def decode(content):
        tries.append(content)
        raise KeyboardInterrupt

    complete(rehearsal, b"", decode)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            future.result()
    assert tries == [b""]


def test_a_decoder_that_wants_the_result_does_not_hang():
    rehearsal, future = executors()
    complete(rehearsal, b"", lambda _: future.result())
    with pytest.raises(RuntimeError, match="decoded by this very thread"):
        future.result()


def test_only_a_watched_future_needs_publishing():
    assert complete(executors()[0]) is False
    rehearsal, future = executors()
    seen = []
    future.add_done_callback(seen.append)
    assert rehearsal.complete(b"7", int) is True
    assert (future.done(), future.result(), seen) == (True, 7, [])
    rehearsal.publish()
    rehearsal.publish()
    assert seen == [future]
    assert rehearsal.complete(b"8", int) is None
    assert future.result() == 7


def test_who_has_the_condition_sees_the_end_only_when_it_is_published():
    rehearsal, future = executors()
    condition = future._condition
    with condition:
        assert future._state == "PENDING"
        assert run_threads(lambda: rehearsal.complete(b"7", int)) == [True]
        assert future._state == "RUNNING"
        assert future._result is None
        assert future._waiters == []  # looking does not change what is seen
        assert future._condition is condition
        assert future._state == "RUNNING"
        publisher = plait.Thread(target=rehearsal.publish)
        publisher.start()
        assert future._state == "RUNNING"  # it waits for the condition
        condition.wait()
        assert future._state == "FINISHED"
    publisher.result(30)


def test_who_takes_the_condition_after_the_end_need_not_wait():
    rehearsal, future = executors()
    future.add_done_callback(id)
    rehearsal.complete(b"7", int)
    assert plait.wait([future], timeout=0).done == {future}
    assert list(plait.as_completed([future])) == [future]
    rehearsal.publish()


def test_cancel_asks_the_executor():
    source = Script(withdraw=True)
    rehearsal, future = executors(source)
    assert future.cancel()
    assert future._state == "CANCELLED_AND_NOTIFIED"
    assert source.asked == ["withdraw"]
    assert complete(rehearsal) is None


def test_cancel_of_a_running_task():
    source = Script(has_begun=True, stop=True)
    rehearsal, future = executors(source)
    assert future.running()
    assert not future.cancel()
    assert "stop" not in source.asked
    assert future.cancel(running=True)
    assert future.cancelled()
    assert not future.running()
    assert complete(rehearsal) is None


def test_cancel_when_the_executor_cannot():
    _, future = executors(Script(has_begun=True))
    assert not future.cancel(running=True)
    assert not future.done()


def test_an_executor_cancels():
    rehearsal, future = executors()
    waiting = plait.Thread(target=plait.wait, args=([future],))
    waiting.start()
    if rehearsal.cancel():
        rehearsal.publish()
    assert waiting.result(30).done == {future}
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
    rehearsal, future = executors(source)
    del source
    complete(rehearsal)
    gc.collect()
    assert gone() is None
    assert future.result() == 1


# Races.


def race(rounds):
    """Calls the functions of each round at once; returns what they returned."""
    start = threading.Barrier(len(rounds[0]))

    def run(lane):
        results = []
        for calls in rounds:
            start.wait(30)
            results.append(calls[lane]())
        return results

    lanes = run_threads(*[functools.partial(run, lane) for lane in range(len(rounds[0]))])
    return list(zip(*lanes, strict=True))


def test_every_waiter_and_callback_is_told_once():
    rounds, pairs = [], []
    for _ in range(300):
        (rehearsal, future), seen = executors(), []

        def add(future=future, seen=seen):
            for _ in range(5):
                future.add_done_callback(seen.append)

        rounds.append(
            [
                functools.partial(complete, rehearsal),
                functools.partial(plait.wait, [future]),
                lambda future=future: list(plait.as_completed([future])),
                future.result,
                add,
                add,
            ]
        )
        pairs.append((future, seen))
    for (future, seen), results in zip(pairs, race(rounds), strict=True):
        completed, waited, in_order, result, *_ = results
        assert completed in (True, False)
        assert waited.done == {future}
        assert in_order == [future]
        assert result == 1
        assert seen == [future] * 10


def test_complete_and_cancel_one_wins():
    rounds, pairs = [], []
    for _ in range(300):
        (rehearsal, future), seen = executors(), []
        future.add_done_callback(seen.append)
        rounds.append([functools.partial(complete, rehearsal), future.cancel])
        pairs.append((future, seen))
    for (future, seen), (completed, cancelled) in zip(pairs, race(rounds), strict=True):
        assert cancelled is (completed is None)
        assert future.cancelled() is cancelled
        assert seen == [future]


def test_many_futures_are_waited_for():
    pairs = [executors() for _ in range(500)]
    futures = [future for _, future in pairs]

    def finish():
        for rehearsal, _ in pairs:
            complete(rehearsal)

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
    assert complete(failing, b"", decoded.append, is_error=True) is True
    assert waiting.result(30).done == {failed}
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
        make().__await__()


# Memory.


def test_a_dropped_future_is_gone_though_the_executor_goes_on(make):
    rehearsal, future = executors()
    gone = weakref.ref(future)
    del future
    assert gone() is None
    assert complete(rehearsal) is False
    future = make()
    gone = weakref.ref(future)
    del future
    assert gone() is None


def test_a_future_with_callbacks_lives_until_they_were_called():
    rehearsal, future = executors()
    seen = []
    future.add_done_callback(lambda done: seen.append(done.result()))
    gone = weakref.ref(future)
    del future
    gc.collect()
    assert gone() is not None
    complete(rehearsal)
    assert seen == [1]
    gc.collect()
    assert gone() is None


def test_one_that_nobody_can_complete_is_collected():
    rehearsal, future = executors()
    future.add_done_callback(id)
    gone = weakref.ref(future)
    del future, rehearsal
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
        from plait import _core

        def waits(pid):  # until the main thread sleeps in the kernel
            while open(f"/proc/{pid}/stat").read().split()[2] != "S":
                time.sleep(0.001)
            os.kill(pid, signal.SIGINT)

        for future in plait.Future(), _core.Rehearsal().future(plait.Future):
            threading.Thread(target=waits, args=(os.getpid(),)).start()
            try:
                future.result()
            except KeyboardInterrupt:
                print("interrupted", future.done())
        """
    )
    assert done.stdout.split() == ["interrupted", "False"] * 2
