"""plait's streams and HTTP client against asyncio's streams, uvloop, aiohttp and httpx.

All in this run, in turns, the best of some rounds of each: read the ratios, the absolute
figures are this machine's. Both ends of the echo are of one kind and in one process, so that a
figure is what a request costs in all.

    python benchmarks/aio_net.py [echo] [http] [idle]
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import math
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from plait import aio

HOST = "127.0.0.1"
ROUNDS = 5

Loop = Callable[[], asyncio.AbstractEventLoop]
Get = Callable[[], Awaitable[object]]


def loops() -> dict[str, Loop]:
    found: dict[str, Loop] = {"asyncio": asyncio.new_event_loop}
    with contextlib.suppress(ImportError):
        found["uvloop"] = importlib.import_module("uvloop").new_event_loop
    return found


def run(loop: Loop, coro: Any) -> Any:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(coro)


def table(title: str, results: dict[str, list[tuple[float, list[float]]]], base: str) -> None:
    """One row a candidate: its best round's rate, and that round's 99th percentile."""
    print(f"\n{title}")
    best = {name: max(rounds, key=lambda one: one[0]) for name, rounds in results.items()}
    for name, (rate, latencies) in best.items():
        p99 = sorted(latencies)[math.ceil(len(latencies) * 0.99) - 1]
        ratio = rate / best[base][0] if base in best else math.nan
        print(f"  {name:34}{rate:10,.0f} /s   p99 {p99 * 1e3:7.2f} ms   {ratio:5.2f}x {base}")


# --- echo


async def echo(reader: Any, writer: Any) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            writer.write(await reader.readuntil(b"\n"))
            await writer.drain()
    writer.close()


async def echoed(streams: Any, connections: int, requests: int) -> tuple[float, list[float]]:
    """Requests a second over so many connections, and how long each took."""
    line, latencies = b"x" * 99 + b"\n", []
    server = await streams.start_server(echo, HOST, 0, backlog=1024)
    host, port = server.sockets[0].getsockname()

    async def client() -> None:
        reader, writer = await streams.open_connection(host, port)
        for _ in range(requests):
            start = time.perf_counter()
            writer.write(line)
            await reader.readuntil(b"\n")
            latencies.append(time.perf_counter() - start)
        writer.close()
        await writer.wait_closed()

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    took = time.perf_counter() - start
    server.close()
    return connections * requests / took, latencies


def bench_echo() -> None:
    for connections, requests in ((1, 4000), (100, 100)):
        results: dict[str, list[tuple[float, list[float]]]] = {}
        for _ in range(ROUNDS):
            for name, loop in loops().items():
                for kind, streams in ((f"{name} streams", asyncio), (f"plait on {name}", aio)):
                    outcome = run(loop, echoed(streams, connections, requests))
                    results.setdefault(kind, []).append(outcome)
        base = "uvloop streams" if "uvloop streams" in results else "asyncio streams"
        table(f"echo of 100 bytes, {connections} connection(s)", results, base)


# --- HTTP


@contextlib.contextmanager
def http_server() -> Any:
    """A small server of plait's in a process of its own; its address."""
    command = [sys.executable, __file__, "--serve"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        host, port = process.stdout.readline().split()
        yield host, int(port)
    finally:
        process.terminate()
        process.wait()


BODY = b"x" * 200
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


async def serve_http() -> None:
    async def answer(reader: Any, writer: Any) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(ANSWER)
        writer.close()

    server = await aio.start_server(answer, HOST, 0, backlog=1024)
    print(*server.sockets[0].getsockname(), flush=True)
    await server.serve_forever()


def by_hand(streams: Any, host: str, port: int) -> Any:
    """A client of streams: the least that could work."""

    @contextlib.asynccontextmanager
    async def make() -> AsyncIterator[Get]:
        idle: list[Any] = []
        request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()

        async def get() -> bytes:
            reader, writer = idle.pop() if idle else await streams.open_connection(host, port)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            body: bytes = await reader.readexactly(int(length))
            idle.append((reader, writer))
            return body

        yield get
        for _, writer in idle:
            writer.close()

    return make


def http_clients(host: str, port: int) -> dict[str, tuple[str, Any]]:
    url = f"http://{host}:{port}/"

    @contextlib.asynccontextmanager
    async def plait() -> AsyncIterator[Get]:
        async def get() -> bytes:
            return (await aio.http_get(url)).body

        yield get

    @contextlib.asynccontextmanager
    async def aiohttp() -> AsyncIterator[Get]:
        session = importlib.import_module("aiohttp").ClientSession()

        async def get() -> Any:
            async with session.get(url) as response:
                return await response.read()

        async with session:
            yield get

    @contextlib.asynccontextmanager
    async def httpx() -> AsyncIterator[Get]:
        async with importlib.import_module("httpx").AsyncClient() as client:

            async def get() -> Any:
                return (await client.get(url)).content

            yield get

    found: dict[str, tuple[str, Any]] = {}
    for name in loops():
        found[f"{name} streams, by hand"] = (name, by_hand(asyncio, host, port))
        found[f"plait streams on {name}, by hand"] = (name, by_hand(aio, host, port))
        found[f"plait http_get on {name}"] = (name, plait)
        for module, make in (("aiohttp", aiohttp), ("httpx", httpx)):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
                found[f"{module} on {name}"] = (name, make)
    return found


async def fetched(make: Any, users: int, requests: int) -> tuple[float, list[float]]:
    latencies: list[float] = []
    async with make() as get:

        async def user(count: int) -> None:
            for _ in range(count):
                start = time.perf_counter()
                assert await get() == BODY
                latencies.append(time.perf_counter() - start)

        await asyncio.gather(*(user(1) for _ in range(users)))  # opens the connections
        latencies.clear()
        start = time.perf_counter()
        await asyncio.gather(*(user(requests) for _ in range(users)))
        took = time.perf_counter() - start
    return users * requests / took, latencies


def bench_http() -> None:
    with http_server() as (host, port):
        for users, requests in ((1, 1000), (50, 40)):
            results: dict[str, list[tuple[float, list[float]]]] = {}
            for _ in range(ROUNDS):
                for name, (loop, make) in http_clients(host, port).items():
                    outcome = run(loops()[loop], fetched(make, users, requests))
                    results.setdefault(name, []).append(outcome)
            base = "uvloop streams, by hand"
            base = base if base in results else "asyncio streams, by hand"
            table(f"HTTP GET of {len(BODY)} bytes, {users} at once", results, base)


# --- many idle connections


def memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def raise_limit(count: int) -> int:
    """How many descriptors a process may have now: the soft limit is raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return max(soft, wanted)


async def hold(streams: Any, count: int) -> None:
    """A server that holds so many connections, each with a task that reads; then tells."""
    empty, open_now, all_there = memory_mb(), 0, asyncio.Event()

    async def wait(reader: Any, writer: Any) -> None:
        nonlocal open_now
        open_now += 1
        if open_now == count:
            all_there.set()
        writer.write(await reader.readline())
        await reader.readline()
        writer.close()

    server = await streams.start_server(wait, HOST, 0, backlog=4096)
    command = [sys.executable, __file__, "--connect", str(count)]
    command += [str(part) for part in server.sockets[0].getsockname()]
    client = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    await all_there.wait()
    await asyncio.sleep(0.2)
    print(f"{empty:.0f} {memory_mb():.0f}", flush=True)
    await client.communicate(b"\n")
    server.close()


async def connect_all(count: int, host: str, port: int) -> None:
    pairs = [await aio.open_connection(host, port) for _ in range(count)]
    await asyncio.to_thread(sys.stdin.readline)
    for _, writer in pairs:
        writer.close()


def bench_idle(count: int = 10_000) -> None:
    allowed = raise_limit(count + 100)
    if allowed < count + 100:
        print(f"\nidle connections: skipped, this machine allows {allowed} descriptors")
        return
    print(f"\n{count:,} open connections, each with a task that waits in readline")
    for kind in ("plait", "asyncio"):
        command = [sys.executable, __file__, "--hold", kind, str(count)]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        empty, full = map(float, told.split())
        each = (full - empty) * 1024 / count
        print(f"  {kind:10}{full:6.0f} MB in all, {each:5.1f} KB a connection")


def main(arguments: list[str]) -> None:
    match arguments:
        case ["--serve"]:
            with contextlib.suppress(KeyboardInterrupt):
                run(list(loops().values())[-1], serve_http())
        case ["--hold", kind, count]:
            asyncio.run(hold(aio if kind == "plait" else asyncio, int(count)))
        case ["--connect", count, host, port]:
            asyncio.run(connect_all(int(count), host, int(port)))
        case _:
            wanted = arguments or ["echo", "http", "idle"]
            for name, bench in (("echo", bench_echo), ("http", bench_http), ("idle", bench_idle)):
                if name in wanted:
                    bench()


if __name__ == "__main__":
    main(sys.argv[1:])
