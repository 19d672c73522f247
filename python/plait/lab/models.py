"""The models that the lab compares: what each is, what it suits, and how it is started."""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from .sessions import (
    ExecutorSession,
    FuturesThreadSession,
    Job,
    NativeSession,
    PoolSession,
    SerialSession,
    Session,
    ThreadSession,
    standard_context,
)

__all__ = ["Model", "find_models", "models"]


@dataclass(frozen=True)
class Model:
    """One way to run a mapping.

    Attributes:
        name: what ``compare`` and the command line call it.
        description: one line on how it runs the tasks.
        language: what the tasks are written in when this model runs them.
        unsuited: says why this model cannot run a job, or None if it can.
        open: makes a session of this model, given the job and the number of workers; None for
            a model that is only listed, with the reason that ``unsuited`` gives.
    """

    name: str
    description: str
    language: Literal["python", "rust"]
    unsuited: Callable[[Job], str | None]
    open: Callable[[Job, int], Session] | None = None


def _runs_functions(job: Job) -> str | None:
    return "an async def runs under the coroutine models only" if job.task_is_coroutine else None


def _runs_anything(job: Job) -> str | None:
    return None


def _runs_pickled(job: Job) -> str | None:
    """Checked before any process is started: a pool would only tell once it has."""
    if reason := _runs_functions(job):
        return reason
    try:
        pickle.dumps(job.task)
    except Exception as error:
        return f"the task cannot be pickled ({error}); plait.process sends it by value"
    return None


def _runs_kernels(job: Job) -> str | None:
    if job.native is not None:
        return None
    return "there is no Rust kernel for this; Python tasks would not run in parallel on rayon"


def _runs_coroutines(job: Job) -> str | None:
    if job.coroutine is not None:
        return None
    return "the task never waits for a coroutine, so one loop would run it serially"


def _runs_tokio(job: Job) -> str | None:
    if job.tokio is not None:
        return None
    return "the task has no form on plait's tokio runtime"


def _open_serial(job: Job, workers: int) -> Session:
    if not job.task_is_coroutine:
        return SerialSession(job, 1)
    return _open_asyncio(job, 1)


def _open_asyncio(job: Job, workers: int) -> Session:
    from .coroutines import CoroutineSession

    assert job.coroutine is not None
    return CoroutineSession(job, workers, job.coroutine)


def _open_uvloop(job: Job, workers: int) -> Session:
    from .coroutines import UvloopSession

    assert job.coroutine is not None
    return UvloopSession(job, workers, job.coroutine)


def _runs_on_uvloop(job: Job) -> str | None:
    if importlib.util.find_spec("uvloop") is None:
        return "not installed: pip install uvloop"
    return _runs_coroutines(job)


def _open_gevent(job: Job, workers: int) -> Session:
    from .greenlets import GreenletSession

    return GreenletSession(job, workers)


def _runs_greenlets(job: Job) -> str | None:
    if importlib.util.find_spec("gevent") is None:
        return "not installed: pip install gevent"
    if reason := _runs_functions(job):
        return reason
    if job.coroutine is None:
        return "the task is not one that waits, so one thread's greenlets would run it serially"
    return None


def _open_tokio(job: Job, workers: int) -> Session:
    from .coroutines import TokioSession

    assert job.tokio is not None
    return TokioSession(job, workers, job.tokio)


class _ByValue:
    """A callable that travels by value, as `plait.Process` sends its target."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        import cloudpickle

        self._pickled: bytes = cloudpickle.dumps(function)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self._pickled,)

    def __call__(self, item: Any) -> Any:
        raise NotImplementedError("only what unpickling it gives is called")


def _open_plait_process(job: Job, workers: int) -> Session:
    from ..process import get_context

    try:
        pickle.dumps(job.task)
    except Exception:
        job = replace(job, task=_ByValue(job.task))
    return ExecutorSession(job, workers, get_context())


def _open_plait_thread(job: Job, workers: int) -> Session:
    from ..thread import Thread

    return ThreadSession(job, workers, Thread)


def _not_here(module: str, install: str) -> Callable[[Job], str | None]:
    """For peers: what to install, or that this version does not drive them yet."""

    def reason(job: Job) -> str | None:
        if importlib.util.find_spec(module) is None:
            return f"not installed: {install}"
        return "installed, but this version of the lab does not run it yet"

    return reason


def _no_interpreters(job: Job) -> str | None:
    if importlib.util.find_spec("_interpreters") is None:  # 3.13 has it, 3.14 documents it
        return "needs Python 3.14's concurrent.interpreters"
    return "this version of the lab does not run it yet"


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "serial",
            "one task after another, in the calling thread",
            "python",
            _runs_anything,
            _open_serial,
        ),
        Model(
            "threading",
            "threading.Thread workers that share one queue",
            "python",
            _runs_functions,
            ThreadSession,
        ),
        Model(
            "multiprocessing",
            "multiprocessing.Pool.map",
            "python",
            _runs_pickled,
            lambda job, workers: PoolSession(job, workers, standard_context()),
        ),
        Model(
            "futures.thread",
            "concurrent.futures.ThreadPoolExecutor.map",
            "python",
            _runs_functions,
            FuturesThreadSession,
        ),
        Model(
            "futures.process",
            "concurrent.futures.ProcessPoolExecutor.map, in as large chunks as Pool.map's",
            "python",
            _runs_pickled,
            lambda job, workers: ExecutorSession(job, workers, standard_context()),
        ),
        Model(
            "interpreters",
            "sub-interpreters, each with a GIL of its own",
            "python",
            _no_interpreters,
        ),
        Model(
            "asyncio",
            "coroutines on one asyncio event loop",
            "python",
            _runs_coroutines,
            _open_asyncio,
        ),
        Model(
            "uvloop",
            "the same coroutines on uvloop's event loop, which is libuv",
            "python",
            _runs_on_uvloop,
            _open_uvloop,
        ),
        Model(
            "gevent",
            "greenlets, in a process of their own whose blocking calls gevent has replaced",
            "python",
            _runs_greenlets,
            _open_gevent,
        ),
        Model(
            "joblib",
            "joblib.Parallel on loky's processes",
            "python",
            _not_here("joblib", "pip install joblib"),
        ),
        Model(
            "dask",
            "dask.bag on its scheduler",
            "python",
            _not_here("dask", "pip install 'dask[distributed]'"),
        ),
        Model(
            "plait.process",
            "ProcessPoolExecutor on plait.get_context()",
            "python",
            _runs_functions,
            _open_plait_process,
        ),
        Model(
            "plait.thread",
            "plait.Thread workers that share one queue",
            "python",
            _runs_functions,
            _open_plait_thread,
        ),
        Model(
            "plait.rayon",
            "the Rust kernel on rayon, with the GIL released",
            "rust",
            _runs_kernels,
            NativeSession,
        ),
        Model(
            "plait.tokio",
            "Rust futures on plait's tokio runtime, awaited from asyncio",
            "rust",
            _runs_tokio,
            _open_tokio,
        ),
    )
}


def models() -> dict[str, Model]:
    """The models that ``compare`` knows by name, in the order of its table.

    >>> from plait.lab import models
    >>> list(models())[:3]
    ['serial', 'threading', 'multiprocessing']
    """
    return dict(MODELS)


def find_models(names: list[str] | None) -> list[Model]:
    """The models of these names; None: all. Serial is always first: it is the reference.

    Raises:
        ValueError: one is not known; the message lists those that are.
    """
    if names is None:
        return list(MODELS.values())
    for name in names:
        if name not in MODELS:
            raise ValueError(f"no model is called {name!r}; there are: {', '.join(MODELS)}")
    return [MODELS[name] for name in dict.fromkeys(["serial", *names])]
