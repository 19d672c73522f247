"""Asynchronous Execution

Asynchronous means that a task is started and the caller goes on with something else; the
result is fetched later, or is delivered by a callback as soon as it is there. While the three
fetches below wait, the main thread does work of its own, and the waits overlap: together
they take about as long as one.

In the standard library's version a pool's threads call back when a future is done. In
plait's, tasks of an event loop hand the same blocking function to plait's threads, and the
callbacks run on the loop.
"""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor

from plait import aio
from plait.lessons.frame import main
from plait.lessons.spans import span

PAGES = ["index", "news", "about"]


def fetch(page: str, delay: float) -> str:
    print(f"Fetching {page}")
    with span(page, "sleep"):
        time.sleep(delay)
    return f"<h1>{page}</h1>"


def when_done(task: "Future[str] | asyncio.Future[str]") -> None:
    print(f"Callback: {task.result()}")


def other_work() -> None:
    print("The main thread goes on with other work")
    with span("other work", "gil", lane="main"):
        total = sum(i * i for i in range(100_000))
    print(f"Other work done: {total}")


def with_stdlib(delay: float) -> None:
    with ThreadPoolExecutor(3, thread_name_prefix="pool") as pool:
        for page in PAGES:
            future = pool.submit(fetch, page, delay)
            future.add_done_callback(when_done)
        other_work()


def with_plait(delay: float) -> None:
    async def fetch_all() -> None:
        tasks = []
        for page in PAGES:
            fetching = aio.to_thread(fetch, page, delay)
            tasks.append(asyncio.create_task(fetching))
            tasks[-1].add_done_callback(when_done)
        await aio.sleep(0)  # lets the tasks start
        other_work()
        await aio.gather(*tasks)

    aio.run(fetch_all())


if __name__ == "__main__":
    main(with_stdlib, with_plait)
