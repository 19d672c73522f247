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

from ..pages import Page

__all__ = ["serve_pages", "topic_pages"]

PAGE_SIZE = 1500


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
