"""`test.test_asyncio.test_streams` on plait's streams; run by test_cpython.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any

import on_plait
import test.test_asyncio.test_streams as suite
from plait import aio


class FedReader:
    """A StreamReader that is fed by hand: the reader of a socket whose other end is here.

    `_buffer` is what was fed and not given yet; asyncio's rules say what an overrun line takes.
    """

    def __init__(self, limit: int = 2**16, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        mine, theirs = socket.socketpair()
        mine.setblocking(False)
        opening = aio.open_connection(sock=mine, limit=limit)
        self._loop = loop or asyncio.get_event_loop()
        self._reader, self._writer = self._loop.run_until_complete(opening)
        self._source, self._limit, self._buffer = theirs, limit, bytearray()

    def __del__(self) -> None:
        if hasattr(self, "_source"):
            self._source.close()

    def feed_data(self, data: bytes) -> None:
        self._source.sendall(data)
        self._buffer += data

    def feed_eof(self) -> None:
        self._source.shutdown(socket.SHUT_WR)

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    def exception(self) -> BaseException | None:
        return self._reader.exception()

    async def _given(self, operation: Awaitable[bytes], is_line: bool = False) -> bytes:
        try:
            data = await operation
        except asyncio.IncompleteReadError as error:
            del self._buffer[: len(error.partial)]
            raise
        except ValueError:
            if is_line:
                end = self._buffer.find(b"\n") + 1
                del self._buffer[: end or None]
            raise
        assert self._buffer.startswith(data)
        del self._buffer[: len(data)]
        return data

    async def read(self, n: int = -1) -> bytes:
        return await self._given(self._reader.read(n))

    async def readline(self) -> bytes:
        return await self._given(self._reader.readline(), is_line=True)

    async def readuntil(self, separator: Any = b"\n") -> bytes:
        return await self._given(self._reader.readuntil(separator))

    async def readexactly(self, n: int) -> bytes:
        return await self._given(self._reader.readexactly(n))


class AsyncioOnPlait:
    """asyncio, but for what plait has instead."""

    StreamReader = FedReader
    open_connection = staticmethod(aio.open_connection)
    open_unix_connection = staticmethod(aio.open_unix_connection)
    start_server = staticmethod(aio.start_server)
    start_unix_server = staticmethod(aio.start_unix_server)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


suite.asyncio = AsyncioOnPlait()  # type: ignore[assignment]


class StreamTests(suite.StreamTests):
    pass


on_plait.skip(globals(), "streams")
