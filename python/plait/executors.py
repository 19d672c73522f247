"""Futures, and waiting for many of them."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Generator
from concurrent.futures import as_completed, wait
from typing import Any, TypeVar

from . import _core

__all__ = ["Future", "as_completed", "wait"]

T = TypeVar("T")


class Future(_core.BaseFuture, concurrent.futures.Future[T]):  # type: ignore[misc]
    """The outcome of a task, at some time: a `concurrent.futures.Future` that is awaitable."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, T]:
        import asyncio  # not above: who awaits has it

        return asyncio.wrap_future(self).__await__()
