"""The models that the lab compares: what each is, what it suits, and how it is started."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import multiprocessing
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .processes import (
    DaskSession,
    ExecutorSession,
    InterpreterSession,
    JoblibSession,
    PlaitPoolSession,
    PoolSession,
    standard_context,
)
from .sessions import (
    FuturesThreadSession,
    Job,
    NativeSession,
    SerialSession,
    Session,
    ThreadSession,
)

__all__ = ["Kind", "Model", "find_models", "models"]

Kind = Literal["serial", "thread", "process", "loop", "native"]


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
        kind: what its workers are.
        own_process: whether it runs in a process of its own, of which nothing is left.
        rehearsed: if not, whether a caller's tasks are run under it once in such a process
            first, so that one that crashes the interpreter, or hangs, does so there.
    """

    name: str
    description: str
    language: Literal["python", "rust"]
    unsuited: Callable[[Job], str | None]
    open: Callable[[Job, int], Session] | None = None
    kind: Kind = "thread"
    own_process: bool = False
    rehearsed: bool = True


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
    return _not_shipped(job)


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
    if job.coroutine is None and not job.guarded:
        return "the task is not one that waits, so one thread's greenlets would run it serially"
    return _not_shipped(job)


def _open_tokio(job: Job, workers: int) -> Session:
    from .coroutines import TokioSession

    assert job.tokio is not None
    return TokioSession(job, workers, job.tokio)


def _open_plait_thread(job: Job, workers: int) -> Session:
    from ..thread import Thread

    return ThreadSession(job, workers, Thread)


def _open_multiprocessing(job: Job, workers: int) -> Session:
    return PoolSession(job, workers, standard_context())


def _open_futures_process(job: Job, workers: int) -> Session:
    return ExecutorSession(job, workers, standard_context())


def _open_interpreters(job: Job, workers: int) -> Session:
    return InterpreterSession(job, workers, standard_context())


def _open_joblib(job: Job, workers: int) -> Session:
    return JoblibSession(job, workers, standard_context())


def _open_dask(job: Job, workers: int) -> Session:
    return DaskSession(job, workers, multiprocessing.get_context("spawn"))


def _runs_by_value(job: Job) -> str | None:
    """For what runs in a process of its own, and sends functions by value."""
    return _runs_functions(job) or _not_shipped(job)


def _not_shipped(job: Job) -> str | None:
    if not job.guarded:
        return None
    reason = job.unshippable
    return None if reason is None else f"the task or its items cannot be sent: {reason}"


def _runs_with(module: str, install: str) -> Callable[[Job], str | None]:
    def reason(job: Job) -> str | None:
        if importlib.util.find_spec(module) is None:
            return f"not installed: {install}"
        return _runs_by_value(job)

    return reason


def _runs_in_interpreters(job: Job) -> str | None:
    if not hasattr(concurrent.futures, "InterpreterPoolExecutor"):
        return "needs Python 3.14's concurrent.interpreters"
    return _runs_by_value(job)


MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model(
            "serial",
            "one task after another, in the calling thread",
            "python",
            _runs_anything,
            _open_serial,
            "serial",
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
            _open_multiprocessing,
            "process",
            own_process=True,
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
            _open_futures_process,
            "process",
            own_process=True,
        ),
        Model(
            "interpreters",
            "sub-interpreters, each with a GIL of its own",
            "python",
            _runs_in_interpreters,
            _open_interpreters,
            "process",
            own_process=True,
        ),
        Model(
            "asyncio",
            "coroutines on one asyncio event loop",
            "python",
            _runs_coroutines,
            _open_asyncio,
            "loop",
        ),
        Model(
            "uvloop",
            "the same coroutines on uvloop's event loop, which is libuv",
            "python",
            _runs_on_uvloop,
            _open_uvloop,
            "loop",
        ),
        Model(
            "gevent",
            "greenlets, in a process of their own whose blocking calls gevent has replaced",
            "python",
            _runs_greenlets,
            _open_gevent,
            "loop",
            rehearsed=False,
        ),
        Model(
            "joblib",
            "joblib.Parallel on loky's processes",
            "python",
            _runs_with("joblib", "pip install joblib"),
            _open_joblib,
            "process",
            own_process=True,
        ),
        Model(
            "dask",
            "dask.bag on its multiprocessing scheduler",
            "python",
            _runs_with("dask", "pip install 'dask[bag]'"),
            _open_dask,
            "process",
            own_process=True,
        ),
        Model(
            "plait.process",
            "plait.ProcessPoolExecutor.map",
            "python",
            _runs_functions,
            PlaitPoolSession,
            "process",
            rehearsed=False,
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
            "native",
        ),
        Model(
            "plait.tokio",
            "Rust futures on plait's tokio runtime, awaited from asyncio",
            "rust",
            _runs_tokio,
            _open_tokio,
            "loop",
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
