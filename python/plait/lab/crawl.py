"""The crawl workload: real pages from a slow server on this machine, fetched and verified.

The server is a process of its own, so that it neither shares the clients' GIL nor is stopped
by ^C before they are. It ends when its standard input does: also when its parent is killed.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

__all__ = ["Page", "fetch", "fetch_async", "serve_pages", "topic_pages"]

PAGE_SIZE = 1500


class Page(NamedTuple):
    """A page to fetch, and the SHA-256 that its body must have."""

    url: str
    digest: str


def topic_pages(size: int = PAGE_SIZE) -> list[bytes]:
    """Python's help on its own language, cut at paragraphs into pages of about ``size`` letters.

    >>> pages = topic_pages()
    >>> len(pages) > 200, all(pages)
    (True, True)
    """
    from pydoc_data.topics import topics

    pages = []
    for _, text in sorted(topics.items()):
        page = ""
        for paragraph in text.split("\n\n"):
            page += paragraph + "\n\n"
            if len(page) >= size:
                pages.append(page.encode())
                page = ""
        if page.strip():
            pages.append(page.encode())
    return pages


@contextlib.contextmanager
def serve_pages() -> Iterator[list[Page]]:
    """Start the server, and give the pages to fetch from it; it ends with the context."""
    pages = topic_pages()
    # By its path, not as a part of the lab: it needs nothing of what the lab imports.
    command = [sys.executable, "-I", str(Path(__file__).with_name("crawl_server.py"))]
    # A session of its own: the terminal's ^C is for the clients.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            server.stdin.write(json.dumps([page.decode() for page in pages]).encode() + b"\n")
            server.stdin.flush()
            port = server.stdout.readline().strip().decode()
            if not port:
                raise RuntimeError("the crawl's server did not start")
            yield [
                Page(f"http://127.0.0.1:{port}/{number}", sha256(page).hexdigest())
                for number, page in enumerate(pages)
            ]
        finally:
            server.stdin.close()  # its sign to end
            server.kill()


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
    from urllib.request import ProxyHandler, build_opener

    opener = build_opener(ProxyHandler({}))  # never by way of a proxy: it is this machine
    with opener.open(page.url, timeout=10) as response:
        return verified(page, response.status, response.read())


async def fetch_async(page: Page) -> int:
    """The same over asyncio's streams, which have no HTTP: one request, answer to the end."""
    import asyncio
    from urllib.parse import urlsplit

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
