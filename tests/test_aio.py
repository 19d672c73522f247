"""plait.aio: Rust futures awaited from asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import ClassVar

import pytest
from conftest import PATIENCE, until
from plait import aio


@pytest.fixture(params=[False, True], ids=["plain", "debug"])
def drive(request):
    """asyncio.run, plain and in debug mode."""
    return lambda coro: asyncio.run(coro, debug=request.param)


# --- sleep, and what every awaitable does


def test_sleep_takes_its_time_and_gives_its_result(drive):
    async def main():
        start = time.perf_counter()
        assert await aio.sleep(0.03, "x") == "x"
        assert await aio.sleep(0.001) is None
        return time.perf_counter() - start

    assert drive(main()) >= 0.03


@pytest.mark.parametrize("delay", [0, -1, -0.0, float("-inf")])
def test_no_delay_lets_the_loop_go_round_once(drive, delay):
    async def main():
        order = []
        asyncio.get_running_loop().call_soon(order.append, "loop")
        order.append(await aio.sleep(delay, "task"))
        return order

    assert drive(main()) == ["loop", "task"]


def test_a_huge_delay_works_and_can_be_cancelled(drive):
    async def main():
        for delay in (1e300, float("inf")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(aio.sleep(delay), 0.001)

    drive(main())


def test_nan_is_refused():
    with pytest.raises(ValueError, match="nan"):
        aio.sleep(float("nan"))
    with pytest.raises(ValueError, match="nan"):
        aio.timeout(float("nan"))


def test_nothing_happens_before_it_is_awaited(drive):
    ran = []

    async def main():
        call = aio.to_thread(ran.append, 1)
        await asyncio.sleep(0.005)
        assert ran == []
        await call
        assert ran == [1]

    drive(main())


def test_awaiting_twice_gives_the_result_again(drive):
    async def main():
        nap = aio.sleep(0.002, 7)
        assert [await nap, await nap] == [7, 7]

        shared = aio.sleep(0.002, 8)

        async def wait():
            return await shared

        assert await asyncio.gather(wait(), wait()) == [8, 8]

    drive(main())


def test_awaiting_on_another_loop_raises():
    async def begin():
        nap = aio.sleep(60)
        task = asyncio.ensure_future(nap)
        await asyncio.sleep(0)
        task.cancel()
        other = aio.to_thread(threading.Event().wait, 0.01)
        other.start()
        return other

    async def go_on(other):
        await other

    pending = asyncio.run(begin())
    with pytest.raises(RuntimeError, match="different loop"):
        asyncio.run(go_on(pending))


def test_asyncio_takes_it_for_a_coroutine(drive):
    async def main():
        assert await asyncio.create_task(aio.sleep(0.001, 1)) == 1
        assert await asyncio.wait_for(aio.sleep(0.001, 2), 5) == 2
        assert await asyncio.shield(aio.sleep(0.001, 3)) == 3
        assert await asyncio.gather(aio.sleep(0.001, 4), aio.sleep(0, 5)) == [4, 5]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(aio.sleep(0.001, 6))
        assert task.result() == 6

    drive(main())
    assert asyncio.run(aio.sleep(0.001, 7)) == 7


def test_once_started_it_has_a_futures_interface(drive):
    async def main():
        nap = aio.sleep(0.002, 1).start()
        assert asyncio.isfuture(nap)
        assert (nap.done(), nap.cancelled()) == (False, False)
        with pytest.raises(asyncio.InvalidStateError):
            nap.result()
        seen = []
        nap.add_done_callback(seen.append)
        nap.add_done_callback(print)
        assert nap.remove_done_callback(print) == 1
        assert await nap == 1
        assert (nap.result(), nap.exception(), seen) == (1, None, [nap])
        late = asyncio.Event()
        nap.add_done_callback(lambda _: late.set())
        await late.wait()
        assert not nap.cancel()

    drive(main())


def test_outside_of_a_loop_it_cannot_start():
    nap = aio.sleep(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        nap.start()
    with pytest.raises(RuntimeError, match="no running event loop"):
        nap.send(None)
    nap.close()


def test_a_callback_that_raises_goes_to_the_loops_handler():
    async def main():
        caught = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
        nap = aio.sleep(0.001).start()
        nap.add_done_callback(lambda _: 1 / 0)
        nap.add_done_callback(lambda _: caught.append("next"))
        await nap
        assert isinstance(caught[0]["exception"], ZeroDivisionError)
        assert caught[1] == "next"

    asyncio.run(main())


def test_each_task_goes_on_in_its_own_context(drive):
    name = contextvars.ContextVar("name")

    async def one(value):
        name.set(value)
        await aio.sleep(0.001)
        return name.get()

    async def main():
        return await asyncio.gather(*(one(value) for value in range(20)))

    assert drive(main()) == list(range(20))


def test_cancelling_the_task_cancels_what_it_awaits(drive):
    async def main():
        nap = aio.sleep(60)
        task = asyncio.create_task(nap)
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert nap.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await nap

    drive(main())


def test_many_loops_in_many_threads():
    results = []

    async def main(number):
        await aio.gather(*(aio.sleep(0.001 * (index % 5)) for index in range(50)))
        results.append(await aio.to_thread(lambda: number))

    threads = [threading.Thread(target=lambda n=n: asyncio.run(main(n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == list(range(6))


def test_a_closed_loop_is_left_alone_and_collected():
    async def main():
        for _ in range(3):
            aio.sleep(3600).start()
        aio.to_thread(time.sleep, 0.01).start()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    until(lambda: gc.collect() is not None and loop() is None)


def test_ready_futures_do_not_starve_the_loop():
    async def main():
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, stop.set)
        while not stop.is_set():
            await aio.gather(aio.sleep(0), aio.sleep(0))

    asyncio.run(main())


# --- gather


def test_gather_keeps_the_order(drive):
    async def main():
        naps = [aio.sleep(0.001 * (5 - index), index) for index in range(5)]
        assert await aio.gather(*naps) == [0, 1, 2, 3, 4]
        assert await aio.gather(naps[0], naps[0]) == [0, 0]
        assert await aio.gather() == []

    drive(main())
    assert asyncio.run(aio.gather(aio.sleep(0.001, 1), aio.sleep(0, 2))) == [1, 2]


def test_gather_mixes_with_coroutines_and_futures(drive):
    async def coroutine():
        return await aio.sleep(0.001, "c")

    async def main():
        task = asyncio.create_task(coroutine())
        mixed = aio.gather(aio.sleep(0.001, "n"), coroutine(), task, aio.gather(aio.sleep(0, 1)))
        assert await mixed == ["n", "c", "c", [1]]

    drive(main())
    assert asyncio.run(aio.gather(coroutine(), aio.sleep(0, 1))) == ["c", 1]


def test_gather_refuses_what_waits_on_another_loop(drive):
    async def begin():
        return aio.sleep(60).start()

    async def gather(other):
        with pytest.raises(RuntimeError, match="different event loop"):
            await asyncio.wait_for(aio.gather(aio.sleep(0), other), 10)

    drive(gather(asyncio.run(begin())))


def fail(text):
    raise LookupError(text)


def test_gather_raises_the_first_exception_and_the_others_go_on(drive):
    async def main():
        gate = threading.Event()
        other = aio.to_thread(gate.wait)
        with pytest.raises(LookupError, match="first"):
            await aio.gather(other, aio.to_thread(fail, "first"))
        assert not other.done()
        gate.set()
        assert await other is True

    drive(main())


def test_gather_can_return_exceptions(drive):
    async def main():
        cancelled = aio.sleep(60).start()
        cancelled.cancel()
        return await aio.gather(
            aio.sleep(0, 1), aio.to_thread(fail, "x"), cancelled, return_exceptions=True
        )

    value, error, cancelled = drive(main())
    assert value == 1
    assert isinstance(error, LookupError)
    assert isinstance(cancelled, asyncio.CancelledError)


def test_cancelling_gather_cancels_its_children(drive):
    async def main():
        for return_exceptions in (False, True):
            naps = [aio.sleep(60), aio.sleep(60)]
            whole = asyncio.ensure_future(aio.gather(*naps, return_exceptions=return_exceptions))
            await asyncio.sleep(0)
            assert whole.cancel()
            with pytest.raises(asyncio.CancelledError):
                await whole
            assert all(nap.cancelled() for nap in naps)

    drive(main())


# --- to_thread


def test_to_thread_calls_on_another_thread_in_a_copy_of_the_context(drive):
    user = contextvars.ContextVar("user")

    def work(a, *, b):
        assert user.get() == "ada"
        user.set("changed")
        return a, b, threading.current_thread()

    async def main():
        user.set("ada")
        a, b, thread = await aio.to_thread(work, 1, b=2)
        assert (a, b) == (1, 2)
        assert thread is not threading.current_thread()
        assert thread.name.startswith("plait-thread-")
        assert thread.daemon
        assert user.get() == "ada"

    drive(main())


def test_to_thread_raises_what_the_function_raises(drive):
    def stops():
        raise StopIteration(5)

    async def main():
        with pytest.raises(LookupError, match="gone"):
            await aio.to_thread(fail, "gone")
        with pytest.raises(SystemExit):
            await aio.to_thread(sys.exit, 3)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await aio.to_thread(stops)

    drive(main())


def test_to_thread_refuses_what_is_not_callable():
    with pytest.raises(TypeError, match="without parentheses"):
        aio.to_thread(sum([1]))


def test_many_calls_run_on_a_bounded_number_of_threads_at_once(drive):
    lock, running, most = threading.Lock(), 0, 0

    def call():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    async def main():
        await aio.gather(*(aio.to_thread(call) for _ in range(500)))

    drive(main())
    assert 1 <= most <= min(32, (os.cpu_count() or 1) + 4)


def test_a_cancelled_call_that_has_not_begun_never_runs(drive):
    gate, ran = threading.Event(), []

    async def main():
        blockers = [aio.to_thread(gate.wait).start() for _ in range(64)]
        late = aio.to_thread(ran.append, 1).start()
        await asyncio.sleep(0)
        assert late.cancel()
        gate.set()
        await aio.gather(*blockers)

    drive(main())
    assert ran == []


# --- run, timeout, interval


def test_run_inside_a_running_loop_uses_another_one():
    user = contextvars.ContextVar("user")

    async def inner():
        await aio.sleep(0.001)
        return user.get(), asyncio.get_running_loop()

    async def main():
        user.set("ada")
        name, loop = aio.run(inner())
        assert name == "ada"
        assert loop is not asyncio.get_running_loop()
        with pytest.raises(LookupError, match="inner"):
            aio.run(aio.to_thread(fail, "inner"))

    asyncio.run(main())


def test_run_raises_for_an_object_of_the_outer_loop():
    async def main():
        outer = asyncio.get_running_loop().create_future()

        async def inner():
            await outer

        with pytest.raises(RuntimeError, match="different loop"):
            aio.run(inner())

    asyncio.run(main())


def test_run_refuses_what_is_not_awaitable():
    with pytest.raises(TypeError, match=r"run\(f\(\)\)"):
        aio.run(fail)


INTERRUPTED = """
import asyncio, os, signal
from plait import aio

async def inner():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        await aio.sleep(60)
    finally:
        print("cleaned up", flush=True)

def cell():
    try:
        aio.run(inner())
    except KeyboardInterrupt:
        print("interrupted", flush=True)

"""

# Under the second one, ^C cancels the main task first, and raises only when it comes again.
OUTER_LOOPS = {
    "a loop": """
loop = asyncio.new_event_loop()
loop.call_soon(cell)
loop.call_soon(loop.stop)
loop.run_forever()
""",
    "asyncio.run": """
async def main():
    aio.run(inner())
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
""",
}


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX signals")
@pytest.mark.parametrize("outer", OUTER_LOOPS)
def test_interrupting_run_inside_a_loop_ends_the_coroutine(outer):
    command = [sys.executable, "-c", INTERRUPTED + OUTER_LOOPS[outer]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (ended.stdout, ended.stderr) == ("cleaned up\ninterrupted\n", "")


def test_timeout_ends_a_block(drive):
    async def main():
        with pytest.raises(TimeoutError):
            async with aio.timeout(0.005):
                await aio.sleep(60)
        async with aio.timeout(None):
            await aio.sleep(0)

    drive(main())


def test_interval_ticks_on_its_grid(drive):
    async def main():
        start = time.perf_counter()
        ticks = []
        async for tick in aio.interval(0.01):
            ticks.append((tick, time.perf_counter() - start))
            if tick == 0:
                time.sleep(0.025)  # a body that takes longer than the period
            if len(ticks) == 3:
                break
        assert ticks[0][0] == 0
        assert 3 <= ticks[1][0] < ticks[2][0]  # 1 and 2 were missed
        assert all(at >= tick * 0.01 for tick, at in ticks)

    drive(main())
    for period in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=str(period)):
            aio.interval(period)


# --- http_get


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    clients: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self):
        self.clients.add(self.client_address)
        body = self.path.encode()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Two", "a")
        self.send_header("X-Two", "b")
        self.end_headers()
        if self.path != "/slow":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_http_get_fetches_pages(drive, server):
    async def main():
        page = await aio.http_get(f"{server}/a?b=c")
        assert (page.status, page.body) == (200, b"/a?b=c")
        assert page.headers["x-two"] == "a, b"
        pages = await aio.gather(*(aio.http_get(f"{server}/{index}") for index in range(50)))
        assert [page.body for page in pages] == [f"/{index}".encode() for index in range(50)]
        assert (await aio.http_get(f"{server}/missing")).status == 404

    drive(main())


def test_http_get_keeps_connections(server):
    async def main():
        Handler.clients.clear()
        for _ in range(40):
            await aio.http_get(f"{server}/again")

    asyncio.run(main())
    # Not 1: a connection is put back a moment after its answer, so the next may take another.
    assert len(Handler.clients) < 40


def test_http_get_says_what_is_wrong(drive, server):
    async def main():
        with pytest.raises(TimeoutError, match=r"0\.05 s"):
            await aio.http_get(f"{server}/slow", timeout=0.05)
        with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1:9/"):
            await aio.http_get("http://127.0.0.1:9/")

    drive(main())
    for url in ("https:///", "ftp://127.0.0.1/", "127.0.0.1", "http://a b/"):
        with pytest.raises(ValueError, match="http"):
            aio.http_get(url)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=str(timeout)):
            aio.http_get("http://127.0.0.1/", timeout=timeout)


# --- after a fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_builds_its_own_runtime_and_threads():
    async def main():
        return await aio.gather(aio.sleep(0.001, 1), aio.to_thread(lambda: 2))

    assert asyncio.run(main()) == [1, 2]
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if asyncio.run(main()) == [1, 2] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(main()) == [1, 2]


def test_a_failed_awaitable_that_its_waiter_keeps_is_collected():
    async def main():
        failing = aio.to_thread(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            await failing  # the traceback has this frame, which has the awaitable
        return weakref.ref(failing)

    left = asyncio.run(main())
    gc.collect()
    assert left() is None
