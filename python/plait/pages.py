"""The tasks of the lab's crawl: fetch one page and verify it, in three ways.

Apart from tasks.py for what they import: a worker process imports it when it is handed the
task, as a part of its start, not of the first page.
"""

from __future__ import annotations

import contextlib
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

__all__ = ["Page", "fetch", "fetch_async", "fetch_tokio", "verified"]


class Page(NamedTuple):
    """A page to fetch, and the SHA-256 that its body must have."""

    url: str
    digest: str


def verified(page: Page, status: int, body: bytes) -> int:
    """The page's size, if it is the right one.

    Raises:
        ValueError: another status than 200, or another body.
    """
    if status != 200 or sha256(body).hexdigest() != page.digest:
        raise ValueError(f"{page.url} gave status {status} and {len(body)} bytes, not the page")
    return len(body)


def fetch(page: Page) -> int:
    """Fetch one page with `urllib`; gives its size in bytes."""
    opener = build_opener(ProxyHandler({}))  # never by way of a proxy: it is this machine
    with opener.open(page.url, timeout=10) as response:
        return verified(page, response.status, response.read())


async def fetch_async(page: Page) -> int:
    """The same over asyncio's streams, which have no HTTP: one request, answer to the end."""
    import asyncio  # not above: the workers that call `fetch` never need it

    parts = urlsplit(page.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return verified(page, int(head.split(None, 2)[1]), body)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def fetch_tokio(page: Page) -> int:
    """The same by `plait.aio.http_get`, whose connection and parsing are Rust's."""
    from . import aio

    response = await aio.http_get(page.url, timeout=10)
    return verified(page, response.status, response.body)
