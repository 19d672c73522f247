"""plait.aio.http_get: which connections are kept, for whom, and how long."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plait import aio
from plait.lab.crawl import serve_pages

HOST = "127.0.0.1"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """On threads of its own, so that it outlives loops: counts connections and requests."""

    def __init__(self, answers: Callable[[int, int], bytes | None]) -> None:
        self.answers = answers
        self.requests: list[int] = []
        self.open: list[socket.socket] = []
        self.ended = threading.Semaphore(0)
        self.listening = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self.listening.getsockname()[1]}/"
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            number = len(self.requests)
            self.requests.append(0)
            self.open.append(connection)
            self.threads.append(threading.Thread(target=self.serve, args=(connection, number)))
            self.threads[-1].start()

    def serve(self, connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            received = b""
            while chunk := connection.recv(10_000):
                received += chunk
                while b"\r\n\r\n" in received:
                    received = received.partition(b"\r\n\r\n")[2]
                    self.requests[number] += 1
                    answer = self.answers(number, self.requests[number])
                    if answer is None:
                        return
                    connection.sendall(answer)
        self.ended.release()

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.threads[0].join()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def serving(answers: Callable[[int, int], bytes | None] = lambda *_: ANSWER) -> Iterator[Server]:
    server = Server(answers)
    try:
        yield server
    finally:
        server.close()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def body(url: str) -> bytes:
    return (await aio.http_get(url)).body


def together(count: int, *, after: int = 0) -> Callable[[int, int], bytes]:
    """Answers once so many wait for one, after so many requests of one after another: each is on
    a connection of its own, as none comes free before."""
    meeting = threading.Barrier(count)
    told = itertools.count()

    def answer(*_: int) -> bytes:
        if next(told) >= after:
            meeting.wait(50)
        return ANSWER

    return answer


def test_one_connection_serves_one_after_another() -> None:
    async def main() -> None:
        for _ in range(50):
            assert await body(server.url) == b"ok"
        assert server.requests == [50]
        assert await aio.gather(*(body(server.url) for _ in range(10))) == [b"ok"] * 10
        assert server.requests == [51] + [1] * 9

    with serving(together(10, after=50)) as server:
        asyncio.run(main())


def test_a_closed_loop_has_closed_its_connections() -> None:
    async def main() -> None:
        await aio.gather(*(body(server.url) for _ in range(5)))
        assert server.ended.acquire(blocking=False) is False

    with serving(together(5)) as server:
        for _ in range(3):
            asyncio.run(main())
            for _ in range(5):
                assert server.ended.acquire(timeout=50)
        assert server.requests == [1] * 15


def test_each_loop_has_its_own() -> None:
    async def main() -> None:
        for _ in range(20):
            assert await body(server.url) == b"ok"

    with serving() as server:
        threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.requests == [20] * 4


def test_a_connection_that_the_server_closed_while_it_was_kept() -> None:
    """Whether the loop has heard of it before the next request or not."""

    async def main(wait: bool) -> None:
        assert await body(server.url) == b"ok"
        server.open[-1].shutdown(socket.SHUT_RDWR)
        if wait:
            before = descriptors()
            while descriptors() == before:
                await aio.sleep(0.001)
        assert await body(server.url) == b"ok"

    with serving() as server:
        for wait in [False, True] if Path("/proc/self/fd").exists() else [False]:
            asyncio.run(asyncio.wait_for(main(wait), 50))
        assert server.requests[:2] == [1, 1]


def test_many_at_once_from_a_server_that_closes_after_each_answer() -> None:
    async def main(urls: list[str]) -> list[bytes]:
        return await aio.gather(*map(body, urls))

    # From another process: connections are made and closed in any order.
    with serve_pages() as pages:
        for _ in range(30):
            sizes = [len(found) for found in aio.run(main([page.url for page in pages[:40]]))]
            assert min(sizes) > 0


def test_a_request_on_a_kept_connection_is_sent_again_once_it_gets_no_answer() -> None:
    async def main() -> None:
        assert await body(server.url) == b"ok"
        assert await body(server.url) == b"ok"
        assert server.requests == [2, 1]

    with serving(
        lambda connection, request: ANSWER if (connection, request) != (0, 2) else None
    ) as (server):
        asyncio.run(main())


def test_what_broke_off_is_not_sent_again() -> None:
    broken = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"

    def answers(connection: int, request: int) -> bytes | None:
        if request == 1:
            return ANSWER
        server.open[connection].sendall(broken)
        return None

    async def main() -> None:
        assert await body(server.url) == b"ok"
        with pytest.raises(ConnectionError, match="failed"):
            await body(server.url)
        assert server.requests == [2]

    with serving(answers) as server:
        asyncio.run(main())


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ANSWER + b"and more that nobody asked for",
    ],
)
def test_what_cannot_be_kept_is_closed(answer: bytes) -> None:
    async def main() -> None:
        for _ in range(3):
            assert await body(server.url) == b"ok"

    with serving(lambda *_: answer) as server:
        asyncio.run(main())
        assert server.requests == [1, 1, 1]


def test_a_cancelled_request_closes_its_connection() -> None:
    async def main() -> None:
        task = asyncio.create_task(body(server.url))
        while not sum(server.requests):
            await aio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while not server.ended.acquire(blocking=False):
            await aio.sleep(0.001)

    with serving(lambda *_: b"") as server:
        asyncio.run(asyncio.wait_for(main(), 50))


def test_a_fast_sender_leaves_the_loop_to_others() -> None:
    """A large body, in chunks, that comes as fast as it can; other tasks have their turn."""
    chunks = b"".join(b"10000\r\n" + bytes(65536) + b"\r\n" for _ in range(200)) + b"0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks

    async def main() -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0)
                beats += 1

        heart = asyncio.create_task(beat())
        assert len(await body(server.url)) == 200 * 65536
        heart.cancel()
        assert beats > 10

    with serving(lambda *_: answer) as server:
        asyncio.run(main())
