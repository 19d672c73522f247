"""Servers of streams, as asyncio has them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import os
import socket
import stat
import sys
from asyncio import trsock
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _core
from ._streams import LIMIT, Pair, check_timeout, copy_of, encoded, port_number, shake, sockets
from ._tls import TLS, settings_of

if TYPE_CHECKING:
    import ssl as _ssl

__all__ = ["Server", "start_server", "start_unix_server"]

Connected: TypeAlias = (
    "Callable[[_core.StreamReader, _core.StreamWriter], Coroutine[Any, Any, None] | None]"
)

# How long a server that has no descriptor left for a connection waits for one, in seconds.
SHORTAGE_PAUSE = 1.0

# What a machine has run out of: no fault of the address.
SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Server:
    """A server that `start_server` made: `asyncio.Server`'s interface.

    ``async with server:`` closes it at the end.
    """

    def __init__(
        self,
        connected: Connected,
        listening: Iterable[socket.socket],
        *,
        limit: int,
        settings: _core.TlsSettings | None,
        handshake_timeout: float | None,
    ) -> None:
        self._connected = connected
        self._waiting = list(listening)  # until it is started
        # The caller's own, which can be looked at until the server is closed.
        self._given: socket.socket | None = None
        self._doors: list[_core.Door] = []
        self._limit = limit
        self._settings = settings
        self._handshake_timeout = handshake_timeout
        self._loop = asyncio.get_running_loop()
        self._sockets = sockets()
        self._visitors = _core.Visitors(self._sockets)
        self._closed = False
        self._forever: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def sockets(self) -> tuple[trsock.TransportSocket, ...]:
        """The listening sockets."""
        waiting = (copy_of(sock.fileno()) for sock in self._waiting)
        open_doors = (door.fileno() for door in self._doors)
        return (*waiting, *(copy_of(one) for one in open_doors if one >= 0))

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return bool(self._doors)

    def _start(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sock in waiting:
            door = self._sockets.listen(
                sock.detach(),
                self._visitors,
                self._accepted,
                contextvars.copy_context(),
                self._limit,
            )
            self._doors.append(door)

    async def start_serving(self) -> None:
        """Accept connections from now on, if it doesn't yet."""
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        self._start()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until this is cancelled, which closes the server."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        self._start()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Stop listening; open connections go on."""
        if self._closed:
            return
        self._closed = True
        for sock in self._waiting:
            sock.close()
        self._waiting.clear()
        if self._given is not None:
            self._given.close()
        for door in self._doors:
            self._sockets.shut(door)
        self._doors.clear()
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._visitors.close()

    def close_clients(self) -> None:
        """Close all open connections, when what was written to them is sent."""
        self._visitors.close_all()

    def abort_clients(self) -> None:
        """Close all open connections at once."""
        self._visitors.abort_all()

    async def wait_closed(self) -> None:
        """Wait until it is closed and its last connection is."""
        await self._visitors.wait()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    def _accepted(self, news: Pair | OSError) -> None:
        if isinstance(news, OSError):
            self._loop.call_exception_handler(
                {"message": "socket.accept() failed", "exception": news}
            )
            self._loop.call_later(SHORTAGE_PAUSE, self._look_again)
            return
        reader, writer = news
        if self._settings is not None:
            self._run(self._shake_first(reader, writer), writer)
            return
        try:
            made = self._connected(reader, writer)
        except Exception as error:
            self._failed(error, writer)
            return
        except BaseException:
            writer.close()
            raise
        if asyncio.iscoroutine(made):
            self._run(made, writer)

    def _failed(self, error: BaseException, writer: _core.StreamWriter) -> None:
        self._loop.call_exception_handler(
            {
                "message": "Unhandled exception in client_connected_cb",
                "exception": error,
                "transport": writer,
            }
        )
        writer.close()

    def _look_again(self) -> None:
        for door in self._doors:
            door.look_again()

    async def _shake_first(self, reader: _core.StreamReader, writer: _core.StreamWriter) -> None:
        assert self._settings is not None
        try:
            await shake(writer, self._settings, None, "a client", self._handshake_timeout)
        except OSError:  # the client's doing; ssl.SSLError is one
            writer.abort()
            return
        made = self._connected(reader, writer)
        if asyncio.iscoroutine(made):
            await made

    def _run(self, work: Coroutine[Any, Any, None], writer: _core.StreamWriter) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                writer.close()
                return
            error = task.exception()
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                writer.close()  # the loop raises it
            elif error is not None:
                self._failed(error, writer)

        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)


async def start_server(
    client_connected_cb: Connected,
    host: str | Sequence[str] | None = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    family: int = socket.AF_UNSPEC,
    flags: int = socket.AI_PASSIVE,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: _ssl.SSLContext | TLS | bool | None = None,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    ssl_handshake_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen for connections, as `asyncio.start_server` does.

    Args:
        client_connected_cb: called with a reader and a writer for each connection; if it is a
            coroutine function, it runs as a task.
        host: an address or name to listen at, or several; None or "": all of this machine's.
        port: a number, 0 for any free one, or a service's name.
        limit: bytes that ``readline`` and ``readuntil`` accept at most.
        family: `socket.AF_INET` or `AF_INET6`: use only these addresses.
        flags: ``AI_*`` flags for the name's look-up.
        sock: a bound socket, in place of ``host`` and ``port``; closing the server closes it.
        backlog: how many connections may wait to be accepted.
        ssl: ``TLS(certfile=…, keyfile=…)``; an SSLContext doesn't tell its certificate.
        reuse_address: listen where connections have just ended; None: yes.
        reuse_port: let others listen there too.
        ssl_handshake_timeout: seconds for a client's TLS handshake; None: 60.
        start_serving: False: not before ``server.start_serving()``.

    Returns:
        A `Server`: ``async with server:``, ``serve_forever()``, ``close()``, ``sockets`` ….

    Raises:
        OSError: it can't listen there: the errno is `errno.EADDRINUSE`, most of all.
        ValueError: arguments that don't go together; an ``ssl`` that can't be a server's.

    >>> import asyncio
    >>> from plait import aio
    >>> async def main():
    ...     async with await aio.start_server(print, "127.0.0.1", 0) as server:
    ...         return server.is_serving()
    >>> asyncio.run(main())
    True
    """
    if isinstance(ssl, bool) and ssl:
        raise TypeError("ssl argument must be an SSLContext or plait.aio.TLS, or None")
    settings = settings_of(ssl, server=True) if ssl else None
    if sock is None:
        if host is None and port is None:
            raise ValueError("give host and port, or sock")
        hosts = [host] if isinstance(host, str) or host is None else list(host)
        listening = await _bind_all(
            hosts, port_number(port), family, flags, reuse_address, reuse_port
        )
    else:
        if host is not None or port is not None:
            raise ValueError("give host and port or sock, not both")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        listening = [sock.dup()]
    server = _serve(
        client_connected_cb,
        listening,
        backlog,
        limit,
        settings,
        ssl_handshake_timeout,
        start_serving,
    )
    server._given = sock
    return server


async def start_unix_server(
    client_connected_cb: Connected,
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    limit: int = LIMIT,
    sock: socket.socket | None = None,
    backlog: int = 100,
    ssl: _ssl.SSLContext | TLS | bool | None = None,
    ssl_handshake_timeout: float | None = None,
    start_serving: bool = True,
) -> Server:
    """Listen at a Unix socket, as `asyncio.start_unix_server` does.

    Args:
        client_connected_cb: as for `start_server`.
        path: the file to make; a socket that is there is replaced, and it stays when the
            server is closed. Bytes or text that begin with a zero: an abstract name.
        sock: a bound socket, in place of ``path``; closing the server closes it.
        limit, backlog, ssl, ssl_handshake_timeout, start_serving: as for `start_server`.

    Returns:
        A `Server`.

    Raises:
        OSError: it can't listen there.

    >>> import asyncio
    >>> from plait import aio
    >>> async def main():
    ...     async with await aio.start_unix_server(print, b"\\0plait-doc") as server:
    ...         return server.is_serving()
    >>> asyncio.run(main())
    True
    """
    if isinstance(ssl, bool) and ssl:
        raise TypeError("ssl argument must be an SSLContext or plait.aio.TLS, or None")
    settings = settings_of(ssl, server=True) if ssl else None
    if (path is None) == (sock is None):
        raise ValueError("give path or sock, and not both")
    if sock is None:
        assert path is not None
        listening = _bind_path(os.fsencode(path))
    else:
        listening = sock.dup()
    server = _serve(
        client_connected_cb,
        [listening],
        backlog,
        limit,
        settings,
        ssl_handshake_timeout,
        start_serving,
    )
    server._given = sock
    return server


def _serve(
    connected: Connected,
    listening: list[socket.socket],
    backlog: int,
    limit: int,
    settings: _core.TlsSettings | None,
    handshake_timeout: float | None,
    start: bool,
) -> Server:
    try:
        if not callable(connected):
            raise TypeError(f"client_connected_cb must be callable, got {connected!r}")
        check_timeout(handshake_timeout, "ssl_handshake_timeout")
        for sock in listening:
            sock.listen(backlog)
        server = Server(
            connected,
            listening,
            limit=limit,
            settings=settings,
            handshake_timeout=handshake_timeout,
        )
    except BaseException:
        for sock in listening:
            sock.close()
        raise
    if start:
        server._start()
    return server


async def _bind_all(
    hosts: Sequence[str | None],
    port: int,
    family: int,
    flags: int,
    reuse_address: bool | None,
    reuse_port: bool | None,
) -> list[socket.socket]:
    """A bound socket for each address of each host."""
    sockets()  # says so where there are none
    addresses: list[tuple[int, tuple[Any, ...]]] = []
    for host in hosts:
        name = encoded(host) if host else None
        found = _core.parse_host(name, port, family)
        if found is None:
            found = await _core.resolve_host(name, port, family, flags)
        addresses.extend(one for one in found if one not in addresses)
    if reuse_address is None:
        reuse_address = os.name == "posix" and sys.platform != "cygwin"
    with contextlib.ExitStack() as stack:
        bound: list[socket.socket] = []
        refused: int | None = errno.EADDRNOTAVAIL  # of no host at all
        for kind, address in addresses:
            try:
                sock = socket.socket(kind, socket.SOCK_STREAM)
            except OSError as error:
                if error.errno in SHORTAGES:
                    text = f"error while attempting to bind on address {address}: {error.strerror}"
                    raise OSError(error.errno, text) from None
                refused = error.errno  # a machine without IPv6
                continue
            stack.enter_context(contextlib.closing(sock))
            if reuse_address:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, True)
            if kind == socket.AF_INET6:  # IPv4 has a socket of its own
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)
            try:
                sock.bind(address)
            except OSError as error:
                text = f"error while attempting to bind on address {address}: {error.strerror}"
                raise OSError(error.errno, text) from None
            bound.append(sock)
        if not bound:
            text = f"could not bind on any address out of {[one for _, one in addresses]}"
            raise OSError(refused, text)
        stack.pop_all()
    return bound


def _bind_path(path: bytes) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path[:1] != b"\0":
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    os.remove(path)
        sock.bind(path)
    except OSError as error:
        sock.close()
        raise OSError(
            error.errno, f"cannot listen at {os.fsdecode(path)!r}: {error.strerror}"
        ) from None
    except BaseException:
        sock.close()
        raise
    return sock
