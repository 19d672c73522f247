"""Cancels at random moments against sockets: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from plait import aio

CONNECTIONS = 8


def possessions() -> tuple[int, int]:
    """Open descriptors, and memory in use, in bytes."""
    gc.collect()
    if sys.platform != "linux":
        return 0, 0
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")


async def echo(reader: Any, writer: Any) -> None:
    with contextlib.suppress(ConnectionError):  # clients are cancelled amid anything
        async for line in reader:
            writer.write(line)
            await writer.drain()
    writer.close()


class Line:
    """Numbers that go through a server and come back, whatever is cancelled meanwhile."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self.reader, self.writer = reader, writer
        self.sent, self.ends = 0, False
        self.received: list[int] = []

    async def send(self) -> None:
        while not self.ends:
            with contextlib.suppress(asyncio.CancelledError):
                self.writer.write(b"%d\n" % self.sent)
                self.sent += 1
                await self.writer.drain()
                await asyncio.sleep(0)
        self.writer.write_eof()

    async def receive(self) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                if not (line := await self.reader.readline()):
                    return
                self.received.append(int(line))


async def visit(port: int) -> None:
    reader, writer = await aio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
    finally:
        writer.close()


async def storm(cancels: int, seed: int) -> list[tuple[int, list[int]]]:
    """How many numbers each line has sent, and what came back."""
    rng = random.Random(seed)
    async with await aio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        lines = [Line(*await aio.open_connection("127.0.0.1", port)) for _ in range(CONNECTIONS)]
        work = [asyncio.create_task(one) for line in lines for one in (line.send(), line.receive())]
        await asyncio.sleep(0)  # one that is cancelled before it began never begins
        visits: set[asyncio.Task[None]] = set()
        cancelled = 0
        while cancelled < cancels:
            while len(visits) < 8:
                visits.add(asyncio.create_task(visit(port)))
            for task in rng.sample(work + list(visits), 6):
                cancelled += task.cancel()
            await (aio.sleep(0.0001) if rng.random() < 0.1 else asyncio.sleep(0))
            for task in [task for task in visits if task.done()]:
                visits.discard(task)
                assert task.cancelled() or task.exception() is None, task.exception()
        for line in lines:
            line.ends = True
        await asyncio.gather(*work)
        for task in visits:
            task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        for line in lines:
            line.writer.close()
            await line.writer.wait_closed()
    await server.wait_closed()
    return [(line.sent, line.received) for line in lines]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "cancels",
    [2_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_a_storm_of_cancels_over_sockets_loses_nothing(cancels: int) -> None:
    asyncio.run(storm(500, 1))
    descriptors, memory = possessions()
    for sent, received in asyncio.run(storm(cancels, 2)):
        assert sent
        assert received == list(range(sent))
    after = possessions()
    assert after[0] <= descriptors
    assert after[1] - memory < 30_000_000
