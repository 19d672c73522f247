"""Streams over sockets: asyncio's interface on Rust's reads, writes, buffers and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import socket
import stat
import sys
from asyncio import trsock
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import _core
from ._tls import TLS, settings_of

if TYPE_CHECKING:
    import ssl as _ssl

__all__ = [
    "Server",
    "copy_of",
    "open_connection",
    "open_unix_connection",
    "start_server",
    "start_unix_server",
    "upgrade",
]

Pair = tuple[_core.StreamReader, _core.StreamWriter]
Connected = Callable[
    [_core.StreamReader, _core.StreamWriter], Coroutine[Any, Any, None] | None
]

LIMIT = 2**16

# asyncio's: seconds.
HANDSHAKE_TIMEOUT = 60.0

# How long a server that has no descriptor left for a connection waits for one, in seconds.
SHORTAGE_PAUSE = 1.0


def _sockets() -> _core.Sockets:
    """The running loop's; the loop keeps them, so that they go when it goes."""
    loop = asyncio.get_running_loop()
    found: _core.Sockets | None = getattr(loop, "_plait_sockets", None)
    if found is None:
        found = _core.Sockets(loop)
        # A closed loop drops its callbacks and their arguments: the keeper closes the sockets.
        loop.add_reader(found.fileno(), step_ready, found, found.keeper())
        loop._plait_sockets = found  # type: ignore[attr-defined]
    return found


def step_ready(sockets: _core.Sockets, keeper: _core.Keeper) -> None:
    """Step the tasks whose streams have news, each under its own context."""
    try:
        for callback, context, argument in sockets:
            try:
                context.run(callback, argument)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"Exception in callback {callback!r}", "exception": error}
                )
    except BaseException:
        sockets.ring()  # the rest of the round goes to the next one
        raise


class _Copy(trsock.TransportSocket):
    """`get_extra_info("socket")`: on a descriptor of its own, which it closes."""

    __slots__ = ()

    def __del__(self) -> None:
        self._sock.close()  # type: ignore[attr-defined]


def copy_of(descriptor: int) -> trsock.TransportSocket:
    return _Copy(socket.socket(fileno=os.dup(descriptor)))


def _check_timeout(timeout: float | None, name: str = "timeout") -> None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"{name} must be above 0 seconds, or None, got {timeout}")


def _encoded(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _port(port: int | str | None) -> int:
    if port is None:
        return 0
    if isinstance(port, str) and not port.isdigit():
        return socket.getservbyname(port, "tcp")
    number = int(port)
    if not 0 <= number <= 65535:
        raise OverflowError(f"port must be 0-65535, got {port}")
    return number


# --- clients


async def open_connection(
    host: str | None = None,
    port: int | str | None = None,
    *,
    limit: int = LIMIT,
    ssl: _ssl.SSLContext | TLS | bool | None = None,
    server_hostname: str | None = None,
    timeout: float | None = None,
    ssl_handshake_timeout: float | None = None,
    family: int = 0,
    flags: int = 0,
    sock: socket.socket | None = None,
    local_addr: tuple[str, int] | None = None,
) -> Pair:
    """Connect to a server, as `asyncio.open_connection` does, for reading and writing.

    The streams have asyncio's interface; reads, writes, buffers and TLS (rustls) are Rust's.
    Bytes are read when they are asked for, and a read that is cancelled loses none.

    Args:
        host: a name or an address; None: this machine.
        port: a number, or a service's name.
        limit: bytes that ``readline`` and ``readuntil`` accept at most.
        ssl: True, an `ssl.SSLContext` or `TLS`.
        server_hostname: the name that the certificate must have; None: ``host``.
        timeout: seconds for all of it: name, connection, TLS; None: no limit.
        ssl_handshake_timeout: seconds for TLS alone; None: 60.
        family: `socket.AF_INET` or `AF_INET6`: use only these addresses.
        flags: ``AI_*`` flags for the name's look-up.
        sock: a connected socket to be taken over, in place of ``host`` and ``port``.
        local_addr: the ``(address, port)`` to connect from.

    Returns:
        ``(reader, writer)``.

    Raises:
        socket.gaierror: there is no such host.
        ConnectionRefusedError: nobody listens there; other kinds of OSError: see its errno.
        TimeoutError: it took too long.
        ssl.SSLCertVerificationError: the server is not who it should be.
        ssl.SSLError: TLS failed otherwise.
        ValueError: arguments that don't go together; an ``ssl`` that can't be used.

    >>> import asyncio
    >>> from plait import aio
    >>> async def echo(reader, writer):
    ...     writer.write(await reader.readline())
    ...     writer.close()
    >>> async def main():
    ...     async with await aio.start_server(echo, "127.0.0.1", 0) as server:
    ...         host, port = server.sockets[0].getsockname()
    ...         reader, writer = await aio.open_connection(host, port)
    ...         writer.write(b"hello\\n")
    ...         answer = await reader.read()
    ...         writer.close()
    ...         return answer
    >>> asyncio.run(main())
    b'hello\\n'
    """
    if sock is not None and (host is not None or port is not None):
        raise ValueError("give host and port or sock, not both")
    if sock is None and host is None and port is None:
        raise ValueError("give host and port, or sock")
    where = f"{host}:{port}" if sock is None else "the socket's peer"

    async def connect() -> Pair:
        if sock is not None:
            return _adopt(sock, limit)
        return await _connect_to_host(host, _port(port), family, flags, local_addr, limit)

    return await _open(connect, where, ssl, server_hostname or host, timeout, ssl_handshake_timeout)


async def open_unix_connection(
    path: str | bytes | os.PathLike[str] | None = None,
    *,
    limit: int = LIMIT,
    ssl: _ssl.SSLContext | TLS | bool | None = None,
    server_hostname: str | None = None,
    timeout: float | None = None,
    ssl_handshake_timeout: float | None = None,
    sock: socket.socket | None = None,
) -> Pair:
    """Connect to a Unix socket, as `asyncio.open_unix_connection` does.

    Args:
        path: the socket's file; bytes or text that begin with a zero: an abstract name.
        sock: a connected socket to be taken over, in place of ``path``.
        limit, ssl, server_hostname, timeout, ssl_handshake_timeout: as for `open_connection`;
            TLS needs ``server_hostname``.

    Returns:
        ``(reader, writer)``.

    Raises:
        FileNotFoundError: there is no such file.
        ConnectionRefusedError: nobody listens there.
        TimeoutError: it took too long.

    >>> import asyncio
    >>> from plait import aio
    >>> asyncio.run(aio.open_unix_connection("/no/such/socket"))
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] Connect call failed '/no/such/socket': No such file or directory
    """
    if (path is None) == (sock is None):
        raise ValueError("give path or sock, and not both")

    async def connect() -> Pair:
        if sock is not None:
            return _adopt(sock, limit)
        assert path is not None
        return await _connect(os.fsencode(path), limit)

    where = f"{path!r}" if sock is None else "the socket's peer"
    return await _open(connect, where, ssl, server_hostname, timeout, ssl_handshake_timeout)


async def _open(
    connect: Callable[[], Coroutine[Any, Any, Pair]],
    where: str,
    ssl: _ssl.SSLContext | TLS | bool | None,
    name: str | None,
    timeout: float | None,
    handshake_timeout: float | None,
) -> Pair:
    _check_timeout(timeout)
    _check_timeout(handshake_timeout, "ssl_handshake_timeout")
    settings = None
    if ssl is not None and ssl is not False:
        if not name:
            raise ValueError("TLS without a host needs server_hostname")
        settings = settings_of(ssl, server=False)
    limited = asyncio.timeout(timeout)
    try:
        async with limited:
            reader, writer = await connect()
            if settings is not None:
                await _shake(writer, settings, name, where, handshake_timeout)
    except TimeoutError as error:
        if not limited.expired():
            raise
        raise TimeoutError(f"connecting to {where} took longer than {timeout} s") from error
    return reader, writer


async def _connect_to_host(
    host: str | None,
    port: int,
    family: int,
    flags: int,
    local: tuple[str, int] | None,
    limit: int,
) -> Pair:
    name = None if host is None else _encoded(host)
    addresses = await _core.resolve_host(name, port, family, flags)
    errors: list[OSError] = []
    for _, address in addresses:
        try:
            return await _connect(address, limit, local)
        except OSError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if len({error.errno for error in errors}) == 1:
        text = "; ".join(str(error.strerror) for error in errors)
        raise OSError(errors[0].errno, text)
    raise OSError("Multiple exceptions: " + ", ".join(map(str, errors)))


async def _connect(
    address: tuple[Any, ...] | bytes, limit: int, local: tuple[str, int] | None = None
) -> Pair:
    reader, writer = _sockets().connect(address, limit, local)
    try:
        await writer._opened()
    except BaseException:
        writer.abort()
        raise
    return reader, writer


def _adopt(sock: socket.socket, limit: int) -> Pair:
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    sockets = _sockets()
    sock.getpeername()  # raises if it isn't connected
    return sockets.adopt(sock.detach(), limit)


async def _shake(
    writer: _core.StreamWriter,
    settings: _core.TlsSettings,
    name: str | None,
    where: str,
    timeout: float | None,
) -> None:
    seconds = HANDSHAKE_TIMEOUT if timeout is None else timeout
    limited = asyncio.timeout(seconds)
    try:
        async with limited:
            await writer._shake(settings, name)
    except TimeoutError as error:
        writer.abort()
        if not limited.expired():
            raise
        raise ConnectionAbortedError(
            f"SSL handshake with {where} is taking longer than {seconds} s: aborting the connection"
        ) from error
    except BaseException:
        writer.close()
        raise


async def upgrade(
    writer: _core.StreamWriter,
    given: _ssl.SSLContext | TLS | bool,
    server_hostname: str | None,
    timeout: float | None,
) -> None:
    """`StreamWriter.start_tls`."""
    server = writer._server_side
    settings = settings_of(given, server=server)
    peer = writer.get_extra_info("peername")
    name = None
    if not server:
        name = server_hostname or (peer[0] if isinstance(peer, tuple) else None)
        if not name:
            raise ValueError("TLS without a host needs server_hostname")
    await writer.drain()
    await _shake(writer, settings, name, repr(peer), timeout)


# --- servers


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
        self._doors: list[_core.Door] = []
        self._limit = limit
        self._settings = settings
        self._handshake_timeout = handshake_timeout
        self._loop = asyncio.get_running_loop()
        self._sockets = _sockets()
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
        made = self._connected(reader, writer)
        if asyncio.iscoroutine(made):
            self._run(made, writer)

    def _look_again(self) -> None:
        for door in self._doors:
            door.look_again()

    async def _shake_first(self, reader: _core.StreamReader, writer: _core.StreamWriter) -> None:
        assert self._settings is not None
        try:
            await _shake(writer, self._settings, None, "a client", self._handshake_timeout)
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
            if error is not None:
                self._loop.call_exception_handler(
                    {
                        "message": "Unhandled exception in client_connected_cb",
                        "exception": error,
                        "transport": writer,
                    }
                )
                writer.close()

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
        sock: a bound socket to be taken over, in place of ``host`` and ``port``.
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
        listening = await _bind_all(hosts, _port(port), family, flags, reuse_address, reuse_port)
    else:
        if host is not None or port is not None:
            raise ValueError("give host and port or sock, not both")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        listening = [sock]
    return _serve(
        client_connected_cb, listening, backlog, limit, settings, ssl_handshake_timeout, start_serving
    )


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
        sock: a bound socket to be taken over, in place of ``path``.
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
        sock = _bind_path(os.fsencode(path))
    return _serve(
        client_connected_cb, [sock], backlog, limit, settings, ssl_handshake_timeout, start_serving
    )


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
        _check_timeout(handshake_timeout, "ssl_handshake_timeout")
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
    addresses: list[tuple[int, tuple[Any, ...]]] = []
    for host in hosts:
        found = await _core.resolve_host(_encoded(host) if host else None, port, family, flags)
        addresses.extend(one for one in found if one not in addresses)
    if reuse_address is None:
        reuse_address = os.name == "posix" and sys.platform != "cygwin"
    with contextlib.ExitStack() as stack:
        bound: list[socket.socket] = []
        for kind, address in addresses:
            try:
                sock = socket.socket(kind, socket.SOCK_STREAM)
            except OSError:
                continue  # a machine without IPv6
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
            raise OSError(f"could not bind on any address out of {[one for _, one in addresses]}")
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
        raise OSError(error.errno, f"cannot listen at {os.fsdecode(path)!r}: {error.strerror}") from None
    except BaseException:
        sock.close()
        raise
    return sock
