"""plait.aio's streams: clients and servers over TCP and Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from plait import aio

HOST = "127.0.0.1"


def uvloop_factory():
    return pytest.importorskip("uvloop").new_event_loop()


@pytest.fixture(params=["plain", "debug", "uvloop"])
def drive(request):
    """Runs a coroutine on a loop: asyncio's, the same in debug mode, uvloop's."""

    def run(coro):
        if request.param == "uvloop":
            try:
                factory = uvloop_factory
                with asyncio.Runner(loop_factory=factory) as runner:
                    return runner.run(asyncio.wait_for(coro, 40))
            finally:
                coro.close()
        return asyncio.run(asyncio.wait_for(coro, 40), debug=request.param == "debug")

    return run


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def serve(callback, **options):
    return aio.start_server(callback, HOST, 0, **options)


def address_of(server):
    return server.sockets[0].getsockname()[:2]


@contextlib.asynccontextmanager
async def connected(**options):
    """plait's two ends of one connection: the client's streams, then the server's."""
    arrived = asyncio.get_running_loop().create_future()
    async with await serve(lambda *pair: arrived.set_result(pair)) as server:
        pair = await aio.open_connection(*address_of(server), **options)
        other = await arrived
        try:
            yield *pair, *other
        finally:
            pair[1].abort()
            other[1].abort()


# --- reading


def test_reads_are_those_of_asyncio(drive):
    async def main():
        async with connected() as (reader, writer, _, other):
            other.write(b"one\ntwo\r\nrest")
            assert await reader.readline() == b"one\n"
            assert await reader.readuntil(b"\r\n") == b"two\r\n"
            assert await reader.readexactly(2) == b"re"
            assert await reader.read(0) == b""
            assert await reader.readexactly(0) == b""
            assert await reader.read(100) == b"st"
            other.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            other.write(b"")
            assert await reader.readexactly(3) == b"abc"
            assert not reader.at_eof()
            other.write(b"last")
            other.close()
            assert await reader.read() == b"last"
            assert reader.at_eof()
            assert await reader.read() == await reader.readline() == await reader.read(5) == b""
            writer.close()
            await writer.wait_closed()
            await other.wait_closed()

    drive(main())


def test_the_end_comes_too_early(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            other.write(b"abc")
            other.close()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readexactly(5)
            assert (caught.value.partial, caught.value.expected) == (b"abc", 5)
        async with connected() as (reader, _, _, other):
            other.write(b"abc")
            other.close()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await reader.readuntil(b";")
            assert (caught.value.partial, caught.value.expected) == (b"abc", None)

    drive(main())


def test_lines_have_a_limit(drive):
    async def main():
        async with connected(limit=8) as (reader, _, _, other):
            other.write(b"0123456789\nshort\n")
            with pytest.raises(asyncio.LimitOverrunError, match="longer than limit") as caught:
                await reader.readuntil()
            assert caught.value.consumed == 10
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
            assert await reader.readline() == b"short\n"
            other.write(b"x" * 20)
            other.close()
            with pytest.raises(asyncio.LimitOverrunError, match="not found"):
                await reader.readuntil()
            assert await reader.readexactly(20) == b"x" * 20

    drive(main())


def test_several_separators_and_bad_ones(drive):
    async def main():
        async with connected() as (reader, writer, _, other):
            other.write(b"a;b,c")
            assert await reader.readuntil((b",", b";")) == b"a;"
            assert await reader.readuntil((b",", b";")) == b"b,"
            for bad in (b"", (), (b"a", b"")):
                with pytest.raises(ValueError, match="eparator"):
                    await reader.readuntil(bad)
            with pytest.raises(ValueError, match="-1"):
                await reader.readexactly(-1)
            for bad in ("text", 5, None):
                with pytest.raises(TypeError, match="bytes"):
                    writer.write(bad)

    drive(main())


def test_lines_can_be_iterated_over(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            other.write(b"1\n2\n3")
            other.close()
            assert [line async for line in reader] == [b"1\n", b"2\n", b"3"]

    drive(main())


def test_large_amounts_pass_both_ways(drive):
    payload = os.urandom(3_000_000)

    async def main():
        async with await serve(echo) as server:
            reader, writer = await aio.open_connection(*address_of(server))

            async def send():
                for start in range(0, len(payload), 100_000):
                    writer.write(payload[start : start + 100_000])
                    await writer.drain()
                writer.write_eof()

            sending = asyncio.create_task(send())
            assert await reader.read() == payload
            await sending
            writer.close()

    drive(main())


def test_a_reader_holds_back_the_writer(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            chunk = bytes(1 << 20)
            sent = 0
            while other.get_write_buffer_size() == 0:
                other.write(chunk)
                sent += len(chunk)
            draining = asyncio.ensure_future(other.drain())
            await aio.sleep(0.01)
            assert not draining.done()
            await reader.readexactly(sent)
            await draining

    drive(main())


def test_a_cancelled_read_loses_nothing(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            for number in range(200):
                reading = asyncio.ensure_future(reader.readexactly(4))
                await asyncio.sleep(0)
                other.write(b"%04d" % number)
                if number % 3 == 0:
                    await asyncio.sleep(0)
                reading.cancel()
                got = (await asyncio.gather(reading, return_exceptions=True))[0]
                if isinstance(got, asyncio.CancelledError):
                    got = await reader.readexactly(4)
                assert got == b"%04d" % number

    drive(main())


def test_a_read_cancelled_after_its_bytes_have_come_loses_nothing(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            tasks = []

            async def read():
                return await reader.readexactly(1)

            async def read_and_cancel(stream):
                await stream.readexactly(1)
                tasks[0].cancel()  # it was woken in the same round, and was not stepped yet

            async with connected() as (second, _, _, second_other):
                for _ in range(50):
                    canceller = asyncio.create_task(read_and_cancel(second))
                    tasks[:] = [asyncio.create_task(read())]
                    await asyncio.sleep(0)
                    second_other.write(b"x")
                    other.write(b"y")
                    await canceller
                    got = (await asyncio.gather(*tasks, return_exceptions=True))[0]
                    if isinstance(got, asyncio.CancelledError):
                        assert await reader.readexactly(1) == b"y"
                    else:
                        assert got == b"y"

    drive(main())


def test_two_tasks_cannot_wait_for_the_same_bytes(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            first = asyncio.ensure_future(reader.readline())
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match=r"read\(\) called while another coroutine"):
                await reader.read(1)
            other.write(b"line\n")
            assert await first == b"line\n"

    drive(main())


def test_a_read_is_awaited_once(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            other.write(b"ab")
            reading = reader.readexactly(1)
            assert await reading == b"a"
            with pytest.raises(RuntimeError, match="already awaited"):
                await reading
            reader.readexactly(1).close()  # one that was never awaited takes nothing
            assert await reader.readexactly(1) == b"b"

    drive(main())


def test_a_fast_sender_does_not_starve_the_loop(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            other.set_write_buffer_limits(high=1 << 30)
            other.write(bytes(40 << 20))
            turns = 0

            async def count():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            counting = asyncio.create_task(count())
            left = 40 << 20
            while left:
                left -= len(await reader.read(1 << 20))
            counting.cancel()
            assert turns > 10

    drive(main())


# --- writing and closing


def test_the_end_of_one_direction(drive):
    async def main():
        async with connected() as (reader, writer, other_reader, other):
            assert writer.can_write_eof()
            writer.write(b"question")
            writer.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            assert await other_reader.read() == b"question"
            other.write(b"answer")
            other.close()
            assert await reader.read() == b"answer"

    drive(main())


def test_closing_ends_reads_of_other_tasks(drive):
    async def main():
        async with connected() as (reader, writer, _, _):
            line = asyncio.ensure_future(reader.readline())
            await asyncio.sleep(0)
            assert not writer.is_closing()
            writer.close()
            assert writer.is_closing()
            assert await line == b""
            await writer.wait_closed()
            with pytest.raises(asyncio.IncompleteReadError):
                await reader.readexactly(1)
            writer.write(b"into the void")
            with pytest.raises(ConnectionResetError):
                await writer.drain()
            writer.close()

    drive(main())


def test_what_was_written_is_sent_before_the_end(drive):
    async def main():
        async with connected() as (reader, _, _, other):
            other.write(bytes(5_000_000))
            other.close()
            assert other.get_write_buffer_size() > 0
            assert len(await reader.read()) == 5_000_000
            await other.wait_closed()

    drive(main())


def test_a_connection_that_nobody_refers_to_is_closed(drive):
    async def main():
        async with await serve(echo) as server:
            reader, writer = await aio.open_connection(*address_of(server))
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            del reader, writer
            gc.collect()
        # leaving waits for the server's connection: it has seen the end

    drive(main())


def reset(writer):
    linger = b"\1\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.abort()


def test_a_reset_is_told(drive):
    async def main():
        async with connected() as (reader, writer, _, other):
            reading = asyncio.ensure_future(reader.read(1))
            await asyncio.sleep(0)
            assert reader.exception() is None
            port = writer.get_extra_info("peername")[1]
            reset(other)
            with pytest.raises(ConnectionResetError, match=str(port)):
                await reading
            with pytest.raises(ConnectionResetError):
                await reader.readline()
            assert isinstance(reader.exception(), ConnectionResetError)

            async def write_on():
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    await aio.sleep(0.001)

            with pytest.raises(ConnectionError):
                await write_on()

    drive(main())


def test_a_reset_that_a_write_met_is_no_end_for_reads(drive):
    async def main():
        async with connected() as (reader, writer, _, other):
            reset(other)

            async def write_on():
                while True:
                    writer.write(b"x" * 10_000)
                    await writer.drain()

            with pytest.raises(ConnectionError):
                await write_on()
            for read in (reader.read(), reader.readline(), reader.readexactly(1)):
                with pytest.raises(ConnectionResetError):
                    await read

    drive(main())


def test_an_address_in_use_is_told_by_its_errno():
    async def main():
        with socket.create_server((HOST, 0)) as taken:
            here = taken.getsockname()
            with pytest.raises(OSError, match="in use") as caught:
                await aio.open_connection(*here, local_addr=here)
            assert caught.value.errno == errno.EADDRINUSE

    asyncio.run(main())


def test_extra_info(drive):
    async def main():
        async with connected() as (_, writer, _, other):
            assert writer.get_extra_info("peername") == other.get_extra_info("sockname")
            assert writer.get_extra_info("sockname") == other.get_extra_info("peername")
            sock = writer.get_extra_info("socket")
            assert sock.getsockname() == writer.get_extra_info("sockname")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert writer.get_extra_info("ssl_object") is None
            assert writer.get_extra_info("nonsense", 5) == 5
            assert writer.transport.get_extra_info("peername") == writer.get_extra_info("peername")
            assert writer.transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)

    drive(main())


# --- connecting


def test_refused_and_unknown_hosts(drive):
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        port = unused.getsockname()[1]

        async def main():
            with pytest.raises(ConnectionRefusedError, match=f"{HOST}.*{port}"):
                await aio.open_connection(HOST, port)
            with pytest.raises(socket.gaierror, match=r"host\.invalid"):
                await aio.open_connection("host.invalid", port)
            for bad in ("no host", "a" * 300):
                with pytest.raises(OSError, match=bad[:20]):
                    await aio.open_connection(bad, port)
            with pytest.raises(OverflowError, match="70000"):
                await aio.open_connection(HOST, 70000)

        drive(main())


def test_a_host_that_does_not_answer_is_given_up(drive):
    # Its queue is full: the kernel drops what else asks to connect.
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind((HOST, 0))
        full.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())

        async def main():
            host, port = full.getsockname()
            with pytest.raises(TimeoutError, match=f"{host}:{port} took longer than 0.05 s"):
                await aio.open_connection(host, port, timeout=0.05)
            connecting = asyncio.ensure_future(aio.open_connection(host, port))
            await aio.sleep(0.01)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting

        drive(main())


def test_arguments_must_go_together(drive):
    async def main():
        with socket.socket() as sock:
            for options in ({}, {"host": HOST, "sock": sock}, {"host": HOST, "timeout": 0}):
                with pytest.raises(ValueError, match=r"give host|timeout"):
                    await aio.open_connection(**({"port": 1, **options} if options else {}))
            with pytest.raises(OSError, match="not connected"):
                await aio.open_connection(sock=sock)
        with pytest.raises(ValueError, match="path"):
            await aio.open_unix_connection()
        with pytest.raises(ValueError, match="host"):
            await aio.start_server(echo)
        with pytest.raises(TypeError, match="callable"):
            await aio.start_server(5, HOST, 0)

    drive(main())


def test_a_socket_can_be_handed_over(drive):
    async def main():
        ours, theirs = socket.socketpair()
        reader, writer = await aio.open_connection(sock=ours)
        shown = writer.get_extra_info("socket")
        assert shown.fileno() == ours.fileno() != -1
        with theirs:
            theirs.sendall(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()
            assert ours.fileno() == shown.fileno() == -1
            theirs.settimeout(20)
            assert theirs.recv(1) == b""

    drive(main())


def test_who_looks_at_a_socket_does_not_keep_it_open(drive):
    async def main():
        ended = asyncio.Event()

        async def until_the_end(reader, writer):
            assert await reader.read() == b""
            ended.set()
            writer.close()

        async with await aio.start_server(until_the_end, HOST, 0) as server:
            _, writer = await aio.open_connection(*server.sockets[0].getsockname())
            shown = writer.get_extra_info("socket")
            writer.close()
            async with asyncio.timeout(20):
                await ended.wait()
            assert shown.fileno() == -1

    drive(main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_servers_socket_may_be_given_and_looked_at(drive, family, tmp_path):
    async def main():
        unix = family == socket.AF_UNIX
        sock = socket.socket(family)
        sock.bind(str(tmp_path / "s") if unix else (HOST, 0))
        start = aio.start_unix_server if unix else aio.start_server
        async with await start(echo, sock=sock) as server:
            opening = aio.open_unix_connection if unix else aio.open_connection
            where = [sock.getsockname()] if unix else sock.getsockname()
            reader, writer = await opening(*where)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
        assert (sock.fileno(), server.sockets) == (-1, ())
        with pytest.raises(OSError):  # noqa: PT011 (refused, or no such file)
            await opening(*where)

    drive(main())


def test_a_family_that_this_machine_has_not_has_its_errno(drive, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    async def main():
        await aio.sleep(0.001)
        monkeypatch.setattr("plait._servers.socket.socket", refuse)
        try:
            with pytest.raises(OSError, match=r"any address out of .*::1") as caught:
                await aio.start_server(echo, "::1", 0)
        finally:
            monkeypatch.undo()
        assert caught.value.errno == errno.EAFNOSUPPORT

    drive(main())


def test_names_of_this_machine(drive):
    async def main():
        async with await aio.start_server(echo, "localhost", 0) as server:
            port = server.sockets[0].getsockname()[1]
            _, writer = await aio.open_connection("localhost", port, local_addr=(HOST, 0))
            writer.close()

    drive(main())


# --- servers


def test_unix_sockets(drive, tmp_path):
    path = tmp_path / "socket"

    async def main():
        for _ in range(2):  # the second server replaces the socket of the first
            async with await aio.start_unix_server(echo, path):
                reader, writer = await aio.open_unix_connection(path)
                assert writer.get_extra_info("peername") == str(path)
                writer.write(b"hi\n")
                assert await reader.readline() == b"hi\n"
                writer.close()
        with pytest.raises(ConnectionRefusedError, match="socket"):
            await aio.open_unix_connection(path)
        with pytest.raises(FileNotFoundError, match="nothing"):
            await aio.open_unix_connection(tmp_path / "nothing")
        with pytest.raises(OSError, match="no/folder"):
            await aio.start_unix_server(echo, tmp_path / "no/folder/x")

    drive(main())


def test_a_callback_may_be_a_function_or_a_coroutine_function(drive):
    async def main():
        tasks = []

        def function(reader, writer):
            tasks.append(asyncio.ensure_future(echo(reader, writer)))

        for callback in (function, echo):
            async with await serve(callback) as server:
                reader, writer = await aio.open_connection(*address_of(server))
                writer.write(b"x\n")
                assert await reader.readline() == b"x\n"
                writer.close()

    drive(main())


def test_a_failing_callback_is_reported_and_its_connection_closed(drive):
    async def fails(reader, writer):
        raise LookupError("handler")

    def fails_at_once(reader, writer):
        raise LookupError("handler")

    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        for callback in (fails, fails_at_once):
            async with await serve(callback) as server:
                reader, writer = await aio.open_connection(*address_of(server))
                assert await reader.read() == b""
                writer.close()
        assert [str(report["exception"]) for report in reports] == ["handler", "handler"]

    drive(main())


def test_the_life_of_a_server(drive):
    async def main():
        server = await serve(echo, start_serving=False)
        assert not server.is_serving()
        await server.start_serving()
        assert server.is_serving()
        host, port = address_of(server)
        _, writer = await aio.open_connection(host, port)
        forever = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already"):
            await server.serve_forever()
        waiting = asyncio.ensure_future(server.wait_closed())
        server.close()
        server.close()
        await asyncio.sleep(0)
        assert not server.is_serving()
        assert server.sockets == ()
        assert not waiting.done()  # one connection is open
        with pytest.raises(ConnectionRefusedError):
            await aio.open_connection(host, port)
        writer.close()
        await waiting
        with pytest.raises(asyncio.CancelledError):
            await forever
        with pytest.raises(RuntimeError, match="closed"):
            await server.start_serving()

    drive(main())


def test_a_server_can_send_its_clients_away(drive):
    async def main():
        arrived = asyncio.Queue()
        for end in ("close_clients", "abort_clients"):
            server = await serve(lambda *pair: arrived.put_nowait(pair))
            clients = [await aio.open_connection(*address_of(server)) for _ in range(5)]
            pairs = [await arrived.get() for _ in range(5)]
            server.close()
            getattr(server, end)()
            await server.wait_closed()
            for reader, writer in clients:
                assert await reader.read() == b""
                writer.close()
            assert all(writer.is_closing() for _, writer in pairs)

    drive(main())


def test_an_address_in_use_is_named(drive):
    async def main():
        async with await serve(echo) as server:
            host, port = address_of(server)
            with pytest.raises(OSError, match=str(port)) as caught:
                await aio.start_server(echo, host, port)
            assert caught.value.errno == errno.EADDRINUSE

    drive(main())


def test_many_connections_at_once(drive):
    async def main():
        async with await serve(echo, backlog=512) as server:

            async def client(number):
                reader, writer = await aio.open_connection(*address_of(server))
                for turn in range(3):
                    writer.write(b"%d %d\n" % (number, turn))
                    assert await reader.readline() == b"%d %d\n" % (number, turn)
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*(client(number) for number in range(200)))

    drive(main())


# --- the other side is asyncio's


def test_a_client_of_an_asyncio_server(drive):
    async def main():
        async with await asyncio.start_server(echo, HOST, 0) as server:
            reader, writer = await aio.open_connection(*address_of(server))
            writer.write(b"x" * 300_000)
            assert await reader.readexactly(300_000) == b"x" * 300_000
            writer.close()
            await writer.wait_closed()

    drive(main())


def test_a_server_of_an_asyncio_client(drive):
    async def main():
        async with await serve(echo) as server:
            reader, writer = await asyncio.open_connection(*address_of(server))
            writer.write(b"x" * 300_000)
            writer.write_eof()
            assert await reader.read() == b"x" * 300_000
            writer.close()
            await writer.wait_closed()

    drive(main())


# --- loops, threads, processes


def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("closes", [True, False])
def test_a_closed_loop_leaves_no_descriptor(drive, closes):
    kept = []

    async def main():
        server = await serve(echo)
        pairs = [await aio.open_connection(*address_of(server)) for _ in range(5)]
        for reader, _ in pairs:
            asyncio.ensure_future(reader.read())  # noqa: RUF006
        await asyncio.sleep(0)
        if closes:
            kept.extend(pairs)

    drive(main())
    kept.clear()
    before = descriptors()
    drive(main())
    if kept:
        reader, writer = kept[0]
        assert writer.is_closing()
        assert reader.at_eof()
        writer.write(b"nobody")
        writer.close()
    # With the objects still there: the loop's end has closed their sockets.
    assert descriptors() <= before
    kept.clear()
    assert descriptors() <= before


def test_a_loop_closed_by_hand_while_streams_wait():
    loop = asyncio.new_event_loop()

    async def main():
        server = await serve(echo)
        reader, writer = await aio.open_connection(*address_of(server))
        waiting = [
            asyncio.ensure_future(reader.read()),
            asyncio.ensure_future(server.wait_closed()),
        ]
        await asyncio.sleep(0)
        return server, reader, writer, waiting

    kept = loop.run_until_complete(main())
    for task in kept[-1]:
        task._log_destroy_pending = False  # the tasks are ours to leave
    loop.close()
    assert kept[2].is_closing()


def test_a_stream_belongs_to_its_loop():
    async def begin():
        server = await serve(echo)
        return await aio.open_connection(*address_of(server))

    first = asyncio.new_event_loop()
    try:
        reader, _ = first.run_until_complete(begin())

        async def read():
            with pytest.raises(RuntimeError, match="different loop"):
                await reader.read(1)

        asyncio.run(read())
    finally:
        first.close()


def test_loops_in_many_threads():
    failures = []

    async def main():
        async with await serve(echo) as server:
            reader, writer = await aio.open_connection(*address_of(server))
            for number in range(50):
                writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number
            writer.close()

    def run():
        try:
            asyncio.run(asyncio.wait_for(main(), 40))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_closing_from_another_thread_wakes_the_reader(drive):
    async def main():
        async with connected() as (reader, writer, _, _):
            reading = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            await asyncio.to_thread(writer.close)
            assert await reading == b""

    drive(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_and_leaves_its_parents_alone():
    async def whole():
        async with await serve(echo) as server:
            reader, writer = await aio.open_connection(*address_of(server))
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
        return True

    async def main():
        async with connected() as (reader, writer, _, other):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                writer.close()
                del reader, writer, other
                worked = []
                thread = threading.Thread(target=lambda: worked.append(asyncio.run(whole())))
                thread.start()
                thread.join()
                os._exit(0 if worked == [True] else 1)
            assert os.waitpid(child, 0)[1] == 0
            other.write(b"still here\n")
            assert await reader.readline() == b"still here\n"

    asyncio.run(asyncio.wait_for(main(), 50))


AT_EXIT = {
    "open": "asyncio.run(main())",
    "waiting": "asyncio.run(main(wait=True))",
    "global loop": "loop = asyncio.new_event_loop(); kept = loop.run_until_complete(main())",
    "daemon thread": """
import threading
ready = threading.Event()
async def forever():
    kept = await main()
    ready.set()
    await asyncio.Event().wait()
threading.Thread(target=asyncio.run, args=[forever()], daemon=True).start()
ready.wait()
""",
    "exit in a handler": """
async def leave(reader, writer):
    raise SystemExit(0)
async def serve():
    server = await aio.start_server(leave, "127.0.0.1", 0)
    kept = await aio.open_connection(*server.sockets[0].getsockname())
    await kept[0].read()
asyncio.run(serve())
""",
}


@pytest.mark.parametrize("way", AT_EXIT)
def test_the_interpreter_ends_quietly(way):
    source = """
import asyncio
from plait import aio
async def echo(reader, writer):
    async for line in reader:
        writer.write(line)
async def main(wait=False):
    server = await aio.start_server(echo, "127.0.0.1", 0)
    pairs = [await aio.open_connection(*server.sockets[0].getsockname()) for _ in range(3)]
    if wait:
        tasks = [asyncio.ensure_future(reader.read()) for reader, _ in pairs]
        await asyncio.sleep(0)
    return server, pairs
"""
    command = [sys.executable, "-W", "error", "-c", source + AT_EXIT[way]]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    quiet = "" if way != "global loop" else ended.stderr.partition("unclosed event loop")[0]
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == quiet or "unclosed event loop" in ended.stderr


@pytest.mark.once
def test_without_streams_the_rest_is_there(run_script):
    done = run_script("""
        import asyncio, sys
        from plait import _core
        for name in ("Sockets", "StreamReader", "StreamWriter", "StreamOperation", "Door",
                     "Keeper", "Visitors", "TlsConnection", "parse_host", "resolve_host"):
            delattr(_core, name)  # as where they aren't built
        sys.platform = "win32"
        from plait import aio
        from plait.aio import *
        assert "StreamReader" not in aio.__all__ and "sleep" in aio.__all__

        async def main():
            for opened in (aio.open_connection("127.0.0.1", 1), aio.start_server(print, "", 0)):
                try:
                    await opened
                except NotImplementedError as error:
                    print(error)

        asyncio.run(main())
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("need a Unix") == 2
