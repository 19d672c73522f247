"""A soak of plait.aio: waits of every kind, on sockets, channels, threads, cancelled at random."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import threading
from pathlib import Path
from typing import Any

from _soak import Soak
from plait import aio

HOST = "127.0.0.1"
PAGE = b"<p>page</p>" * 100


def square(n: int) -> int:
    return n * n


async def echo(reader: Any, writer: Any) -> None:
    with contextlib.suppress(ConnectionError):  # clients are cancelled amid anything
        async for line in reader:
            writer.write(line)
            await writer.drain()
    writer.close()


async def serve_page(reader: Any, writer: Any) -> None:
    """Answers each request of a connection; of `/cut` half, and closes."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while head := await reader.readuntil(b"\r\n\r\n"):
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(PAGE), PAGE)
            if head.startswith(b"GET /cut"):
                writer.write(answer[: len(answer) // 2])
                break
            writer.write(answer)
            await writer.drain()
    writer.close()


async def visit(port: int, lines: int) -> int:
    reader, writer = await aio.open_connection(HOST, port)
    try:
        for number in range(lines):
            writer.write(b"%d\n" % number)
            assert await reader.readline() == b"%d\n" % number
    finally:
        writer.close()
    return lines


async def fetch(url: str) -> int:
    try:
        assert (await aio.http_get(url, 30)).body == PAGE
    except (ConnectionError, asyncio.IncompleteReadError):
        assert url.endswith("/cut")
    else:
        assert not url.endswith("/cut")
    return 1


async def messages(count: int) -> int:
    """From two threads to three tasks, each receive of which may be cancelled: all arrive."""
    channel: aio.Channel[int] = aio.Channel(16)

    def send(numbers: range) -> None:
        for number in numbers:
            channel.send(number)

    threads = [threading.Thread(target=send, args=(range(n, count, 2),)) for n in range(2)]
    for thread in threads:
        thread.start()
    received: list[int] = []

    async def receive() -> None:
        while len(received) < count:
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                async with aio.timeout(random.random() * 0.002):
                    received.append(await channel.recv_async())

    await asyncio.gather(receive(), receive(), receive())
    for thread in threads:
        thread.join()
    assert sorted(received) == list(range(count))
    return count


async def some_cancelled(tasks: list[asyncio.Task[int]]) -> int:
    """How much was done by those that were not."""
    await aio.sleep(random.random() * 0.002)
    for task in random.sample(tasks, len(tasks) // 4):
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result
    return sum(result for result in results if isinstance(result, int))


async def nap() -> int:
    await aio.sleep(random.random() * 0.003)
    return 1


async def one_round(echoes: int, pages: int, file: Path) -> int:
    start = asyncio.create_task
    done = len(await aio.gather(*(aio.sleep(random.random() * 0.002, n) for n in range(1000))))
    done += await some_cancelled([start(nap()) for _ in range(300)])
    done += await messages(300)
    done += await some_cancelled([start(visit(echoes, 20)) for _ in range(24)])
    urls = [f"http://{HOST}:{pages}/{'cut' if n % 8 == 7 else ''}" for n in range(32)]
    done += await some_cancelled([start(fetch(url)) for url in urls])
    squares = await aio.gather(*(aio.to_thread(square, n) for n in range(50)))
    assert squares == [n * n for n in range(50)]
    assert await aio.to_process(square, 7) == 49
    await aio.write_file(file, PAGE)
    assert await aio.read_file(file) == PAGE
    return done + len(squares) + 3


async def soak(minutes: float) -> bool:
    watch = Soak(minutes, "operations")
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        async with (
            await aio.start_server(echo, HOST, 0) as echoes,
            await aio.start_server(serve_page, HOST, 0) as pages,
        ):
            ports = [server.sockets[0].getsockname()[1] for server in (echoes, pages)]
            while True:
                done += await one_round(*ports, Path(folder, "page"))
                if not watch.goes_on(done):
                    break
            pages.close_clients()  # connections that http_get keeps
    for server in (echoes, pages):
        await server.wait_closed()
    # The servers' handlers see the end of their connections now.
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        assert not (await asyncio.wait(others, timeout=5))[1], "tasks are left"
    return watch.verdict()
