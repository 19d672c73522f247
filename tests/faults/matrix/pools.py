"""One adapter a library: the little that the cases need, in the library's own way.

An adapter is opened by calling its class. What a library has no way to do is `NotOffered`.
"""

from __future__ import annotations

import concurrent.futures
import importlib.metadata
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# In the environment: by how much to multiply all limits, for a machine that is often held up.
SLACK = "PLAIT_FAULT_SLACK"
slack = float(os.environ.get(SLACK, "1"))
# How long a result may take before it counts as one that never comes: seconds.
PATIENCE = 8.0 * slack

# Function, arguments and, sometimes, options as a dict.
Call = tuple[Any, ...]


class NotOffered(Exception):
    """The library has no such operation."""


@dataclass
class Outcome:
    """How a task ended."""

    value: Any = None
    error: BaseException | None = None
    hung: bool = False

    def is_value(self, expected: Any) -> bool:
        return self.error is None and not self.hung and bool(self.value == expected)

    def text(self) -> str:
        """Everything that it tells of a failure: its type, message, attributes, causes, notes."""
        if self.hung:
            return "no result"
        parts, error = [], self.error
        while error is not None:
            notes = getattr(error, "__notes__", [])
            parts += [f"{type(error).__name__}: {_message(error)}", *map(str, notes)]
            parts += [f"exit code {error.exitcode}"] if hasattr(error, "exitcode") else []
            error = error.__cause__
        return " <- ".join(parts) or repr(self.value)[:80]


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:
        return f"<its __str__ raises {type(failed).__name__}>"


class Pool:
    """The adapters' base, for libraries that hand out futures."""

    package = "plait"
    patience = PATIENCE

    def __init__(self, workers: int = 2, **options: Any) -> None:
        raise NotImplementedError

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise NotImplementedError

    def outcome(self, handle: Any, patience: float | None = None) -> Outcome:
        """What became of it, or that nothing did."""
        try:
            return Outcome(value=handle.result(self.patience if patience is None else patience))
        except BaseException as error:
            if isinstance(error, concurrent.futures.TimeoutError) and not handle.done():
                return Outcome(hung=True)
            return Outcome(error=error.with_traceback(None))

    def cancel(self, handle: Any) -> bool:
        """Stops it although it runs."""
        raise NotOffered

    def batch(self, calls: Sequence[Call]) -> list[Outcome]:
        """Submits all, then looks at each."""
        handles = [self._try_submit(*call) for call in calls]
        outcomes, patience = [], self.patience
        for handle in handles:
            ready = isinstance(handle, Outcome)
            outcomes.append(handle if ready else self.outcome(handle, patience))
            if outcomes[-1].hung:
                patience = 0.01  # it has been seen to hang; don't wait for each
        return outcomes

    def _try_submit(self, fn: Any, args: Any, options: dict[str, Any] | None = None) -> Any:
        try:
            return self.submit(fn, *args, **(options or {}))
        except NotOffered:
            raise
        except BaseException as error:
            return Outcome(error=error.with_traceback(None))

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return iter(self.executor.map(fn, items))

    executor: Any

    def close(self) -> None:
        self.executor.shutdown(wait=True)

    def forget(self) -> None:
        """Lets go of the library's objects, as a program that is done with them does."""
        vars(self).clear()

    def __enter__(self) -> Any:
        """The library's own context manager, for what it does when an exception passes."""
        self.executor.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.executor.__exit__(*exc)

    @classmethod
    def version(cls) -> str:
        return importlib.metadata.version(cls.package) if cls.package else ""


class Plait(Pool):
    def __init__(self, workers: int = 2, **options: Any) -> None:
        import plait

        self.executor = plait.ProcessPoolExecutor(workers, **options)

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        to = self.executor.options(**options) if options else self.executor
        return to.submit(fn, *args)

    def cancel(self, handle: Any) -> bool:
        return bool(handle.cancel(running=True))


def _no(options: dict[str, Any]) -> None:
    if options:
        raise NotOffered(", ".join(options))


class Futures(Pool):
    package = ""

    def __init__(self, workers: int = 2, **options: Any) -> None:
        self.executor = concurrent.futures.ProcessPoolExecutor(workers, **options)

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        _no(options)
        return self.executor.submit(fn, *args)


class Loky(Futures):
    package = "loky"

    def __init__(self, workers: int = 2, **options: Any) -> None:
        import loky

        self.executor = loky.get_reusable_executor(max_workers=workers, reuse=False, **options)


class MultiprocessingPool(Pool):
    package = ""

    def __init__(self, workers: int = 2, **options: Any) -> None:
        import multiprocessing

        self.executor = multiprocessing.Pool(workers, **options)

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        _no(options)
        return self.executor.apply_async(fn, args)

    def outcome(self, handle: Any, patience: float | None = None) -> Outcome:
        handle.wait(self.patience if patience is None else patience)
        if not handle.ready():
            return Outcome(hung=True)
        try:
            return Outcome(value=handle.get(0))
        except BaseException as error:
            return Outcome(error=error.with_traceback(None))

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return iter(self.executor.imap(fn, items))

    def close(self) -> None:
        self.executor.close()
        self.executor.join()


class Pathos(MultiprocessingPool):
    package = "pathos"

    def __init__(self, workers: int = 2, **options: Any) -> None:
        from pathos.pools import ProcessPool

        # By default pools of the same size are one pool, open or closed.
        self.executor = ProcessPool(workers, id=uuid.uuid4().hex, **options)

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        _no(options)
        return self.executor.apipe(fn, *args)

    def close(self) -> None:
        self.executor.close()
        self.executor.join()
        self.executor.clear()


class Mpire(MultiprocessingPool):
    package = "mpire"

    def __init__(self, workers: int = 2, initializer: Any = None, **options: Any) -> None:
        from mpire import WorkerPool

        self.executor = WorkerPool(n_jobs=workers, **options)
        self.extra = {"worker_init": initializer} if initializer is not None else {}

    def submit(
        self, fn: Callable[..., Any], *args: Any, timeout: float | None = None, **options: Any
    ) -> Any:
        _no(options)
        extra = {**self.extra, **({"task_timeout": timeout} if timeout is not None else {})}
        return self.executor.apply_async(fn, args, **extra)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        # A tuple would be taken for several arguments; and without a length it wants one.
        known = {} if hasattr(items, "__len__") else {"iterable_len": 10}
        return iter(self.executor.imap(fn, items, chunk_size=1, **known))

    def close(self) -> None:
        self.executor.stop_and_join()


class Pebble(Pool):
    package = "pebble"

    def __init__(self, workers: int = 2, **options: Any) -> None:
        from pebble import ProcessPool

        self.executor = ProcessPool(max_workers=workers, **options)

    def submit(
        self, fn: Callable[..., Any], *args: Any, timeout: float | None = None, **options: Any
    ) -> Any:
        _no(options)
        return self.executor.schedule(fn, args=args, timeout=timeout)

    def cancel(self, handle: Any) -> bool:
        return bool(handle.cancel())

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return iter(self.executor.map(fn, items).result())

    def close(self) -> None:
        self.executor.close()
        self.executor.join()


class Joblib(Pool):
    """It has no submit: a batch is one call, and what comes after an error in it is lost."""

    package = "joblib"

    def __init__(self, workers: int = 2, **options: Any) -> None:
        from joblib import Parallel

        if workers <= 0:
            raise NotOffered("a negative n_jobs counts from the number of cores")
        self.workers, self.options = workers, options
        self.executor = Parallel(n_jobs=workers, return_as="generator", **options)
        self.executor.__enter__()

    def submit(self, fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        raise NotOffered("submit")

    def _results(self, calls: Iterable[Call], parallel: Any) -> Iterator[Any]:
        from joblib import delayed

        return iter(parallel(delayed(call[0])(*call[1]) for call in calls))

    def batch(self, calls: Sequence[Call]) -> list[Outcome]:
        parallel = self.executor
        own = next((dict(call[2]) for call in calls if len(call) > 2), {})
        if own:
            from joblib import Parallel

            timeout = own.pop("timeout", None)
            _no(own)
            parallel = Parallel(n_jobs=self.workers, return_as="generator", timeout=timeout)
        outcomes: list[Outcome] = []
        try:
            # Its generator cannot be waited for with a limit: the step's limit ends that.
            outcomes.extend(Outcome(value=value) for value in self._results(calls, parallel))
        except BaseException as error:
            outcomes += [Outcome(error=error)] * (len(calls) - len(outcomes))
        return outcomes

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return self._results(((fn, (item,)) for item in items), self.executor)

    def close(self) -> None:
        self.executor.__exit__(None, None, None)
        # The workers are the process's, and stay for the next call.
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)

    def __enter__(self) -> Any:
        return self


POOLS: dict[str, type[Pool]] = {
    "plait": Plait,
    "multiprocessing.Pool": MultiprocessingPool,
    "ProcessPoolExecutor": Futures,
    "loky": Loky,
    "joblib": Joblib,
    "mpire": Mpire,
    "pebble": Pebble,
    "pathos": Pathos,
}


def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
