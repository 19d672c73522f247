"""Streams to servers: asyncio's interface on Rust's reads, writes, buffers and TLS."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import sys
from asyncio import trsock
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

from . import _core
from ._eyeballs import DELAY, first_to_answer, interleaved
from ._tls import TLS, settings_of

if TYPE_CHECKING:
    import ssl as _ssl

__all__ = ["Pair", "copy_of", "open_connection", "open_unix_connection", "sockets", "upgrade"]

Pair: TypeAlias = "tuple[_core.StreamReader, _core.StreamWriter]"

LIMIT = 2**16

# asyncio's: seconds.
HANDSHAKE_TIMEOUT = 60.0


def sockets() -> _core.Sockets:
    """The running loop's; the loop keeps them, so that they go when it goes."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        raise NotImplementedError("plait's streams need a Unix; asyncio's are the same otherwise")
    found: _core.Sockets | None = getattr(loop, "_plait_sockets", None)
    if found is None:
        found = _core.Sockets(loop)
        # A closed loop drops its callbacks and their arguments: the keeper closes the sockets.
        loop.add_reader(found.fileno(), step_ready, found, found.keeper())
        loop._plait_sockets = found  # type: ignore[attr-defined]
    return found


def step_ready(sockets: _core.Sockets, keeper: _core.Keeper) -> None:
    """Step the tasks whose streams have news, each under its own context."""
    del keeper  # it would live as long as the traceback of a task that this steps
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

    def end(self) -> None:
        """The stream is closed; the other side sees no end while a descriptor is open."""
        self._sock.close()  # type: ignore[attr-defined]

    __del__ = end


def copy_of(descriptor: int) -> trsock.TransportSocket:
    return _Copy(socket.socket(fileno=os.dup(descriptor)))


def check_timeout(timeout: float | None, name: str = "timeout") -> None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"{name} must be above 0 seconds, or None, got {timeout}")


def encoded(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode("ascii")


def port_number(port: int | str | None) -> int:
    if port is None:
        return 0
    if isinstance(port, str) and not port.isdigit():
        return socket.getservbyname(port, "tcp")
    number = int(port)
    if not 0 <= number <= 65535:
        raise OverflowError(f"port must be 0-65535, got {port}")
    return number


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
    happy_eyeballs_delay: float | None = DELAY,
    interleave: int | None = None,
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
        sock: a connected socket, in place of ``host`` and ``port``. The streams own it from now
            on, as with asyncio: it can be looked at until closing them closes it.
        local_addr: the ``(address, port)`` to connect from.
        happy_eyeballs_delay: of a host with several addresses, seconds until the next one is
            tried beside the last (RFC 8305; asyncio's default is None: only when it failed).
        interleave: how many addresses of the first family are tried before those of the other
            take turns; None: 1.

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
    if happy_eyeballs_delay is not None:
        check_timeout(happy_eyeballs_delay, "happy_eyeballs_delay")
    if sock is not None and (host is not None or port is not None):
        raise ValueError("give host and port or sock, not both")
    if sock is None and host is None and port is None:
        raise ValueError("give host and port, or sock")
    where = f"{host}:{port}" if sock is None else "the socket's peer"

    async def connect() -> Pair:
        if sock is not None:
            return _adopt(sock, limit)
        return await _connect_to_host(
            host,
            port_number(port),
            family,
            flags,
            local_addr,
            limit,
            happy_eyeballs_delay,
            interleave,
        )

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
    check_timeout(timeout)
    check_timeout(handshake_timeout, "ssl_handshake_timeout")
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
                await shake(writer, settings, name, where, handshake_timeout)
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
    delay: float | None,
    interleave: int | None,
) -> Pair:
    sockets()  # says so where there are none
    name = None if host is None else encoded(host)
    addresses = _core.parse_host(name, port, family)
    if addresses is None:
        addresses = await _core.resolve_host(name, port, family, flags)
    if len(addresses) == 1:  # no race, and no tasks for it
        return await _connect(addresses[0][1], limit, local)
    if delay is not None:
        addresses = interleaved(addresses, interleave or 1)
    attempts = [functools.partial(_connect, address, limit, local) for _, address in addresses]
    race = first_to_answer(attempts, delay, _abort)
    pair, errors = await race
    if pair is not None:
        return pair
    if len(errors) == 1:
        raise errors[0]
    if len({error.errno for error in errors}) == 1:
        text = "; ".join(str(error.strerror) for error in errors)
        raise OSError(errors[0].errno, text)
    raise OSError("Multiple exceptions: " + ", ".join(map(str, errors)))


def _abort(pair: Pair) -> None:
    pair[1].abort()


async def _connect(
    address: tuple[Any, ...] | bytes, limit: int, local: tuple[str, int] | None = None
) -> Pair:
    reader, writer = sockets().connect(address, limit, local)
    try:
        await writer._opened()
    except BaseException:
        writer.abort()
        raise
    return reader, writer


def _adopt(sock: socket.socket, limit: int) -> Pair:
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")
    sock.getpeername()  # raises if it isn't connected
    sock.setblocking(False)  # which it is then, for the streams' own descriptor too
    reader, writer = sockets().adopt(os.dup(sock.fileno()), limit)
    writer._keep(_Copy(sock))
    return reader, writer


async def shake(
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
    await shake(writer, settings, name, repr(peer), timeout)
