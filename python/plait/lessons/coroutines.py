"""Coroutines

A coroutine is a function that can pause in its middle and be resumed. The program switches
between coroutines by itself, at each await, without asking the operating system; so a
switch is cheap, and one thread can hold thousands of them.

The standard library's are asyncio's. plait's are the same coroutines on the same loop, with
timers and other waits that run in Rust (tokio). uvloop is another loop for asyncio's. The
tutorial names gevent, whose greenlets switch without being marked by await. All lanes below
have one and the same thread.

At its end each version fetches the same pages, all at once, from a real server, a process of
its own that takes some milliseconds for each page.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from plait import aio
from plait.lab.crawl import serve_pages
from plait.lessons.frame import main
from plait.lessons.spans import span
from plait.pages import Page, fetch_async, fetch_tokio, verified

LABELS = "ABC"
MANY = 2_000
PAGES = 40
Waiter = Callable[..., Awaitable[object]]
Fetcher = Callable[[Page], Awaitable[int]]


async def worker(label: str, delay: float, sleep: Waiter) -> None:
    for i in range(3):
        print(f"Coroutine {label}{i} started in {threading.current_thread().name}")
        with span(f"{label}{i}", "sleep", lane=label):
            await sleep(delay)
        print(f"Coroutine {label}{i} finished")


async def everything(delay: float, sleep: Waiter, gather: Waiter) -> None:
    await gather(*(worker(label, delay, sleep) for label in LABELS))
    began = time.perf_counter()
    await gather(*(sleep(delay) for _ in range(MANY)))
    print(f"{MANY} sleeps of {delay:g} s: {time.perf_counter() - began:.3f} s")


async def crawl(pages: list[Page], fetch: Fetcher, gather: Waiter) -> None:
    began = time.perf_counter()
    await gather(*(fetch(page) for page in pages[:PAGES]))
    print(f"{PAGES} pages in {time.perf_counter() - began:.3f} s")


def with_stdlib(delay: float) -> None:
    asyncio.run(everything(delay, asyncio.sleep, asyncio.gather))
    with serve_pages() as pages:
        asyncio.run(crawl(pages, fetch_async, asyncio.gather))


def with_plait(delay: float) -> None:
    aio.run(everything(delay, aio.sleep, aio.gather))
    with serve_pages() as pages:
        aio.run(crawl(pages, fetch_tokio, aio.gather))


def with_uvloop(delay: float) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(everything(delay, asyncio.sleep, asyncio.gather))
        with serve_pages() as pages:
            runner.run(crawl(pages, fetch_async, asyncio.gather))


def with_gevent(delay: float) -> None:
    import gevent
    from gevent.socket import create_connection

    def green_worker(label: str) -> None:
        for i in range(3):
            print(f"Greenlet {label}{i} started in {threading.current_thread().name}")
            with span(f"{label}{i}", "sleep", lane=label):
                gevent.sleep(delay)
            print(f"Greenlet {label}{i} finished")

    gevent.joinall([gevent.spawn(green_worker, label) for label in LABELS])
    began = time.perf_counter()
    gevent.joinall([gevent.spawn(gevent.sleep, delay) for _ in range(MANY)])
    print(f"{MANY} sleeps of {delay:g} s: {time.perf_counter() - began:.3f} s")

    def green_fetch(page: Page) -> int:
        parts = urlsplit(page.url)
        with create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall(f"GET {parts.path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
        return verified(page, int(head.split(None, 2)[1]), body)

    with serve_pages() as pages:
        began = time.perf_counter()
        jobs = [gevent.spawn(green_fetch, page) for page in pages[:PAGES]]
        gevent.joinall(jobs, raise_error=True)
        print(f"{PAGES} pages in {time.perf_counter() - began:.3f} s")


if __name__ == "__main__":
    main(with_stdlib, with_plait, with_uvloop, with_gevent)
