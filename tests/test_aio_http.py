"""plait.aio.http_get against servers that behave badly and against nginx; files."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import os
import shutil
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from plait import aio

HOST = "127.0.0.1"


def run(coro):
    return asyncio.run(asyncio.wait_for(coro, 40))


@contextlib.asynccontextmanager
async def answering(answer):
    """A server that reads a request and leaves the rest to `answer`; its URL."""
    requests = []

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                await answer(reader, writer)

    async with await aio.start_server(serve, HOST, 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", requests
        server.close()
        server.abort_clients()


async def stall(reader, writer):
    await reader.read()


async def reset(reader, writer):
    linger = b"\1\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.abort()


async def hang_up(reader, writer):
    writer.close()


async def garbage(reader, writer):
    writer.write(bytes(range(255, 0, -1)) * 10)
    writer.close()


async def break_off(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    writer.close()


async def trickle(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        writer.write(b"x-%d: y\r\n" % number)
        await writer.drain()
        await aio.sleep(0.005)


async def long_head(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 500_000 + b"\r\n\r\n")
    await writer.drain()
    await reader.read()


async def large_body(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000))
    await writer.drain()


async def endless_body(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(bytes(10_000))
        await writer.drain()


async def endless_length(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n")


async def bomb(reader, writer):
    body = gzip.compress(bytes(200_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def no_gzip(reader, writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nzip?")


BAD = {
    "stall": (stall, TimeoutError, r"longer than 0\.1 s"),
    "trickle": (trickle, TimeoutError, r"longer than 0\.1 s"),
    "reset": (reset, ConnectionError, "failed"),
    "hang up": (hang_up, ConnectionError, "failed"),
    "garbage": (garbage, ConnectionError, "failed"),
    "break off": (break_off, ConnectionError, "failed"),
    "long head": (long_head, asyncio.LimitOverrunError, "headers are larger than 131072"),
    "large body": (large_body, asyncio.LimitOverrunError, "larger than 100000 bytes"),
    "endless length": (endless_length, ConnectionError, "Content-Length is no number"),
    "bomb": (bomb, asyncio.LimitOverrunError, "larger than 100000 bytes"),
    "no gzip": (no_gzip, ConnectionError, "not what its Content-Encoding says: Gzip"),
    "endless body": (endless_body, asyncio.LimitOverrunError, "larger than 100000 bytes"),
}


@pytest.mark.parametrize("how", BAD)
def test_bad_servers(how):
    answer, error, text = BAD[how]
    # Only who must run into the limit gets a short one.
    timeout = 0.1 if error is TimeoutError else 30

    async def main():
        async with answering(answer) as (url, _):
            for _ in range(2):
                with pytest.raises(error, match=text) as caught:
                    await aio.http_get(url, timeout, max_size=100_000)
                assert url in str(caught.value)

    run(main())


def test_a_large_body_is_fine_when_it_is_allowed():
    async def main():
        async with answering(large_body) as (url, _):
            assert len((await aio.http_get(url, max_size=200_000)).body) == 200_000
            assert len((await aio.http_get(url, max_size=None)).body) == 200_000

    run(main())


def test_headers_are_sent():
    async def main():
        async with answering(large_body) as (url, requests):
            await aio.http_get(url, headers={"X-One": "1", "accept": "text/plain"})
            assert b"x-one: 1\r\n" in requests[0].lower()
            assert b"accept: text/plain\r\n" in requests[0].lower()
            assert b"host: 127.0.0.1" in requests[0].lower()
        for bad in ({"a b": "c"}, {"a": "b\r\nc: d"}):
            with pytest.raises(ValueError, match="header"):
                aio.http_get(url, headers=bad)

    run(main())


# What Google's encoder makes of 100 times all bytes.
BROTLI = (
    "1bff630064406e969f979a4ca421be3c9ae0c7050004812150187c7e0c00e14fae160002894263b0383c8148"
    "2253a8343a032313330b2b1b3b072717370f2f1fbf80a090b088a898b884a494b48cac9cbc82a292b28aaa9a"
    "ba86a696b68eae9ebe81a191b189a999b985a595b58dad9dbd83a393b38bab9bbb87a797b78faf9f7f406050"
    "7048685878446454744c6c5c7c426252724a6a5a7a466656764e6e5e7e4161517149695979456555754d6d5d"
    "7d436353734b6b5b7b476757774f6f5fffc0e0d0f0c8e8d8f8c4e4d4f4ccecdcfcc2e2d2f2caeadafac6e6d6"
    "f6ceeedefec1e1d1f1c9e9d9f9c5e5d5f5cdedddfdc3e3d3f3cbebdbfbc7e7d7f7cfefdf3fa001"
)


def test_bodies_are_decoded_unless_the_caller_asks_for_a_coding():
    text = bytes(range(256)) * 100
    deflate = zlib.compressobj(wbits=-15)
    coded = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "deflate, gzip": gzip.compress(deflate.compress(text) + deflate.flush()),
        "br": bytes.fromhex(BROTLI),
        "zstd": b"whatever",
    }

    async def main():
        async def answer(reader, writer):
            body = coded[kind]
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Encoding: {kind}\r\n".encode())
            writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

        async with answering(answer) as (url, requests):
            for kind in coded:
                page = await aio.http_get(url, max_size=len(text))
                assert page.body == (text if kind != "zstd" else coded["zstd"])
                assert page.headers["content-encoding"] == kind
                assert b"\r\naccept-encoding: gzip, deflate, br\r\n" in requests[-1].lower()
                page = await aio.http_get(url, headers={"Accept-Encoding": kind})
                assert page.body == coded[kind]
                assert requests[-1].lower().count(b"accept-encoding") == 1

    run(main())


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/caf\u00e9?a=b%20c".encode(), b"/caf%C3%A9?a=b%20c"),
        (b"/caf\xe9 au lait", b"/caf%E9%20au%20lait"),
    ],
)
def test_letters_in_a_location_are_quoted(location, path):
    async def main():
        async def answer(reader, writer):
            if len(requests) == 1:
                writer.write(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n")
                writer.write(b"Content-Length: 0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        async with answering(answer) as (url, requests):
            page = await aio.http_get(url, follow_redirects=True)
            assert requests[1].split()[1] == path
            assert page.url == url + path.decode()

    run(main())


def test_redirects():
    async def main():
        async def redirect(reader, writer):
            path = requests[-1].split()[1]
            if path == b"/end":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend")
                return
            target = b"/loop" if path == b"/loop" else b"end"
            writer.write(
                b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + target + b"\r\n\r\n"
            )

        async with answering(redirect) as (url, requests):
            page = await aio.http_get(f"{url}/begin")
            assert (page.status, page.headers["location"], page.url) == (302, "end", f"{url}/begin")
            page = await aio.http_get(f"{url}/begin", follow_redirects=True)
            assert (page.status, page.body, page.url) == (200, b"end", f"{url}/end")
            with pytest.raises(ConnectionError, match="more than 10 times"):
                await aio.http_get(f"{url}/loop", follow_redirects=True)

    run(main())


def test_a_host_that_is_unknown():
    async def main():
        with pytest.raises(socket.gaierror, match=r"host\.invalid"):
            await aio.http_get("http://host.invalid/")

    run(main())


def test_bad_arguments():
    for options in ({"max_size": -1}, {"ssl": False}, {"timeout": -1}):
        with pytest.raises(ValueError, match=r"max_size|verify|timeout"):
            aio.http_get("http://127.0.0.1/", **options)


# --- nginx

NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/errors;
events {{ worker_connections 256; }}
http {{
    access_log off; keepalive_requests 100000;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen {host}:{port}; root {folder}/www;
        location /moved {{ return 301 /page; }}
    }}
}}
"""


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("no nginx here (tools/nginx.sh installs Debian's nginx-light, as root)")
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www/page").write_bytes(b"from nginx")
    (folder / "www/large").write_bytes(bytes(3_000_000))
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    config = folder / "config"
    config.write_text(NGINX.format(folder=folder, host=HOST, port=port))
    command = [program, "-c", str(config), "-p", str(folder), "-e", str(folder / "errors")]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, port)) == 0:
                    break
            errors = folder / "errors"
            assert process.poll() is None, errors.read_text() if errors.exists() else "ended"
            assert time.monotonic() < deadline, "nginx does not listen"
            time.sleep(0.01)
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(30)


def test_http_get_from_nginx(nginx):
    async def main():
        pages = await aio.gather(*(aio.http_get(f"{nginx}/page") for _ in range(200)))
        assert {(page.status, page.body) for page in pages} == {(200, b"from nginx")}
        assert "nginx" in pages[0].headers["server"]
        assert len((await aio.http_get(f"{nginx}/large")).body) == 3_000_000
        assert (await aio.http_get(f"{nginx}/nothing")).status == 404
        page = await aio.http_get(f"{nginx}/moved", follow_redirects=True)
        assert (page.body, page.url) == (b"from nginx", f"{nginx}/page")

    run(main())


def test_streams_with_nginx(nginx):
    host, port = nginx.removeprefix("http://").split(":")

    async def main():
        reader, writer = await aio.open_connection(host, port)
        for _ in range(3):
            writer.write(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(10) == b"from nginx"
        writer.close()
        await writer.wait_closed()

    run(main())


# --- files


def test_files(tmp_path):
    path = tmp_path / "fil\u00e9"

    async def main():
        assert await aio.write_file(path, b"hello") == 5
        assert await aio.read_file(path) == b"hello"
        assert await aio.write_file(str(path), bytearray(3_000_000)) == 3_000_000
        assert await aio.read_file(os.fspath(path)) == bytes(3_000_000)
        assert await aio.write_file(path, "t\u00e9xt") == 5
        assert await aio.read_file(path) == "t\u00e9xt".encode()
        many = [aio.write_file(tmp_path / str(number), b"%d" % number) for number in range(50)]
        await aio.gather(*many)
        read = await aio.gather(*(aio.read_file(tmp_path / str(number)) for number in range(50)))
        assert read == [b"%d" % number for number in range(50)]
        for missing in (aio.read_file(tmp_path / "no"), aio.write_file(tmp_path / "no/x", b"")):
            with pytest.raises(FileNotFoundError) as caught:
                await missing
            assert Path(caught.value.filename).is_relative_to(tmp_path)
        with pytest.raises(IsADirectoryError):
            await aio.read_file(tmp_path)
        with pytest.raises(ValueError, match=r"nul|NUL"):
            await aio.read_file("a\0b")

    run(main())
    with pytest.raises(TypeError):
        aio.write_file(path, 5)
    with pytest.raises(TypeError):
        aio.read_file(5)


def test_reading_a_file_ends_with_the_program(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    source = f"""
import asyncio
from plait import aio
async def main():
    aio.read_file({str(fifo)!r}).start()
    await asyncio.sleep(0)
asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", source]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("port", ["65536", "99999", "123456789012"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ValueError, match="the port must be a number"):
        aio.http_get(f"http://{HOST}:{port}/")


def test_headers_that_are_not_utf_8_are_read_as_latin_1():
    async def answer(reader, writer):
        head = "HTTP/1.1 200 OK\r\nx: caf\xe9\r\nContent-Length: 0\r\n"
        writer.write(head.encode("latin-1") + "y: caf\xe9\r\n\r\n".encode())

    async def main():
        async with answering(answer) as (url, _):
            return (await aio.http_get(url)).headers

    headers = run(main())
    assert headers["x"] == headers["y"] == "caf\xe9"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_too_many_open_files_are_told_as_such():
    program = """
import asyncio, errno, os, resource
from plait import aio
async def main():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), limit))
    makes = [
        lambda: aio.sleep(0.001),
        lambda: aio.open_connection("127.0.0.1", 1),
        lambda: aio.start_server(print, "127.0.0.1", 0),
    ]
    for make in makes:
        try:
            await make()
        except OSError as error:
            assert error.errno == errno.EMFILE, error
        else:
            raise AssertionError
asyncio.run(main())
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
