"""The coroutine models' session; apart from the others, so that workers needn't import asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from .sessions import AT_ONCE, Job, Session

__all__ = ["CoroutineSession", "TokioSession", "UvloopSession"]


T = TypeVar("T")


class CoroutineSession(Session):
    """Coroutines on one event loop in a thread of its own, ``workers`` of them in flight.

    A thread of its own, because the caller's may already run a loop, as in Jupyter.
    """

    by_threads_alone = True

    def __init__(self, job: Job, workers: int, task: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(job, workers)
        self._task = task

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    @property
    def lanes(self) -> int:
        return 1

    @property
    def threads(self) -> list[int]:
        return [self._thread.native_id or 0]

    def __enter__(self) -> CoroutineSession:
        self._loop = self._new_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="plait-lab-loop", daemon=True
        )
        self._thread.start()
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()
        return self

    async def _map(self) -> list[Any]:
        items = self.job.items
        results: list[Any] = [None] * len(items)
        todo = iter(range(len(items)))

        async def take() -> None:
            for index in todo:  # shared: each index goes to one of the takers
                results[index] = await self._task(items[index])

        await self._all([take() for _ in range(min(self.workers, len(items)))])
        return results

    async def _all(self, takers: list[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*takers)

    async def _map_for(self, seconds: float) -> tuple[int, float]:
        start = time.perf_counter()
        for done, item in enumerate(itertools.cycle(self.job.items), 1):
            await self._task(item)
            if (spent := time.perf_counter() - start) >= seconds:
                return done, spent
        return 0, 0.0  # there are no items

    def run(self) -> list[Any]:
        return self._wait_for(self._map())

    def run_for(self, seconds: float) -> tuple[int, float]:
        return self._wait_for(self._map_for(seconds))

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except AT_ONCE:
            future.cancel()
            raise

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        patience = 0.3 if kind in AT_ONCE else None
        with contextlib.suppress(TimeoutError):
            ending.result(patience)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._loop.close()


class UvloopSession(CoroutineSession):
    """The same on uvloop."""

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop


class TokioSession(CoroutineSession):
    """The same, gathered by `plait.aio`; the tasks await Rust futures."""

    by_threads_alone = False  # those run on tokio's

    async def _all(self, takers: list[Coroutine[Any, Any, None]]) -> None:
        from .. import aio

        await aio.gather(*takers)
