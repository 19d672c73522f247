"""The coroutine models' session; apart from the others, so that workers needn't import asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from .sessions import Job, Session

__all__ = ["CoroutineSession"]


class CoroutineSession(Session):
    """Coroutines on one event loop in a thread of its own, ``workers`` of them in flight.

    A thread of its own, because the caller's may already run a loop, as in Jupyter.
    """

    def __init__(self, job: Job, workers: int, task: Callable[[Any], Awaitable[Any]]) -> None:
        super().__init__(job, workers)
        self._task = task

    @property
    def lanes(self) -> int:
        return 1

    def __enter__(self) -> CoroutineSession:
        self._loop = asyncio.new_event_loop()
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

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.workers, len(items))):
                group.create_task(take())
        return results

    def run(self) -> list[Any]:
        future = asyncio.run_coroutine_threadsafe(self._map(), self._loop)
        try:
            return future.result()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        except KeyboardInterrupt:
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
        patience = 0.3 if kind is KeyboardInterrupt else None
        with contextlib.suppress(TimeoutError):
            ending.result(patience)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._loop.close()
