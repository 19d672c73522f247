"""Short programs, many times each: with coroutines under way, a program ends as its author meant,
at whatever moment: no abort, no hang, no panic, and no word on stderr but its own traceback."""

from __future__ import annotations

import collections
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

# What each does; the status it ends with; what the last line of its stderr begins with.
PROGRAMS: dict[str, tuple[str, int, str]] = {
    "exit after an await": (
        """
        async def main():
            await aio.sleep(random.random() * 0.002)
            await aio.gather(aio.sleep(0.001), aio.to_thread(int), aio.sleep(0))

        asyncio.run(main())
        """,
        0,
        "",
    ),
    "exit with pending tasks": (
        """
        async def main():
            channel = aio.Channel(1)
            tasks.extend(asyncio.create_task(aio.sleep(random.random() * 0.004)) for _ in range(20))
            tasks.append(asyncio.create_task(aio.to_thread(time.sleep, 60)))
            tasks.append(asyncio.create_task(channel.recv_async()))
            tasks.append(aio.gather(aio.sleep(60), channel.recv_async()))
            await aio.sleep(0.001)

        tasks = []
        asyncio.run(main())
        """,
        0,
        "",
    ),
    "sys.exit inside a task": (
        """
        async def work():
            await aio.sleep(random.random() * 0.002)
            sys.exit(3)

        async def main():
            task = asyncio.create_task(work())
            task.add_done_callback(lambda done: done.exception())  # else asyncio tells of it
            await aio.gather(aio.sleep(60), aio.to_thread(time.sleep, 60))

        asyncio.run(main())
        """,
        3,
        "",
    ),
    "loops in threads": (
        """
        async def main():
            await aio.gather(*(aio.sleep(random.random() * 0.002) for _ in range(20)))
            await aio.to_thread(int)

        for _ in range(3):
            threading.Thread(target=asyncio.run, args=(main(),)).start()
        """,
        0,
        "",
    ),
    "after a fork": (
        """
        async def main():
            await aio.gather(aio.sleep(random.random() * 0.002), aio.to_thread(int))

        asyncio.run(main())
        child = os.fork()
        asyncio.run(main())
        if child == 0:
            sys.exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        """,
        0,
        "",
    ),
    "with a closed loop": (
        """
        async def main():
            keep.extend(aio.sleep(random.random() * 0.002).start() for _ in range(20))
            keep.append(aio.to_thread(time.sleep, 0.001).start())
            keep.append(channel.recv_async().start())

        keep, channel, loop = [], aio.Channel(1), asyncio.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        channel.send("to nobody")
        try:
            aio.call_soon(loop, print, "never")
        except RuntimeError as error:
            assert "closed" in str(error), error
        else:
            raise AssertionError("the loop is closed")
        """,
        0,
        "",
    ),
    "with futures that nobody awaits": (
        """
        async def main():
            aio.sleep(1)
            aio.to_thread(time.sleep, 60)
            aio.gather(aio.sleep(0.001), aio.sleep(60))
            keep.append(aio.to_thread(divmod, 1, 0).start())
            keep.append(aio.sleep(60))
            await aio.sleep(random.random() * 0.002)

        keep = []  # the end of the program tells nothing of these; of the others Python warns
        warnings.filterwarnings("ignore", "plait awaitable .* was never awaited")
        asyncio.run(main())
        """,
        0,
        "",
    ),
    "^C in the middle": (
        """
        def interrupt():
            time.sleep(random.random() * 0.004)
            signal.raise_signal(signal.SIGINT)

        async def main():
            threading.Thread(target=interrupt, daemon=True).start()
            while True:
                await aio.gather(aio.sleep(0.0005), aio.to_thread(int), aio.sleep(0))

        signal.signal(signal.SIGINT, signal.default_int_handler)
        asyncio.run(main())
        """,
        -2,
        "KeyboardInterrupt",
    ),
    "sys.exit in a coroutine": (
        """
        async def main():
            asyncio.create_task(aio.sleep(60))
            aio.to_thread(time.sleep, 60).start()
            await aio.sleep(random.random() * 0.002)
            sys.exit("told so")

        asyncio.run(main())
        """,
        1,
        "told so",
    ),
    "daemon threads alive": (
        """
        async def main():
            channel = aio.Channel(2)
            async def produce():
                for n in itertools.count():
                    await channel.send_async(n)
            task = asyncio.create_task(produce())
            async for n in channel:
                await aio.gather(aio.sleep(0.0001), aio.to_thread(int))

        def receive():
            for _ in shared:
                pass

        shared = aio.Channel(1)
        for _ in range(2):
            threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
            threading.Thread(target=receive, daemon=True).start()
        for n in range(20):
            shared.send(n)
        time.sleep(random.random() * 0.01)
        """,
        0,
        "",
    ),
}

FRAME = """
import asyncio, itertools, os, random, signal, sys, threading, time, warnings
from plait import aio
if sys.version_info >= (3, 12):
    warnings.filterwarnings("ignore", "(?s).*fork", DeprecationWarning)
{body}
"""

HUNG = "it hung"

# See tests/test_exit.py: without a GIL, CPython's own daemon threads now and then hang at exit.
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def end(kind: str) -> str | None:
    """Runs a program; what was wrong with its end, if anything."""
    body, status, last = PROGRAMS[kind]
    source = FRAME.format(body=textwrap.dedent(body))
    command = [sys.executable, "-c", source]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    except subprocess.TimeoutExpired:
        return HUNG
    lines = done.stderr.splitlines() or [""]
    # A KeyboardInterrupt is printed with its traceback, nothing else may be.
    expected = lines[-1].startswith(last) if last else not done.stderr
    if kind == "^C in the middle":
        expected = expected and lines[0].startswith("Traceback") and len(lines) < 60
    else:
        expected = expected and len(lines) == 1
    words = any(word in done.stderr for word in ("panicked", "Fatal", "plait_", "destroyed"))
    if done.returncode != status or done.stdout or not expected or words:
        return f"status {done.returncode}\n{done.stdout}{done.stderr}"
    return None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", PROGRAMS)
@pytest.mark.parametrize(
    "times",
    [10, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_programs_end_as_they_mean_to(kind: str, times: int) -> None:
    if "fork" in kind and not hasattr(__import__("os"), "fork"):
        pytest.skip("needs fork")
    if kind == "loops in threads" and (3, 12, 0) <= sys.version_info < (3, 12, 2):
        pytest.skip("Python 3.12.0 and 3.12.1 start no thread once the main one has ended")
    with ThreadPoolExecutor(4) as several:
        wrong = [fault for fault in several.map(end, [kind] * times) if fault]
    if FREE_THREADED and set(wrong) == {HUNG} and ("daemon" in kind or "^C" in kind):
        pytest.xfail(f"{len(wrong)} of {times} hung, as CPython's own daemon threads do")
    assert not wrong, f"{len(wrong)} of {times}: {collections.Counter(wrong).most_common(3)}"
