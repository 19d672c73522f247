"""Processes, threads, coroutines and parallel maps for Python on a Rust core.

Layout: one concept, one name, in Rust and in Python.

===============  =====================================================  ==============
module           what it holds                                          engine
===============  =====================================================  ==============
plait.process    Process, get_context, install, current_process …       src/process/
plait.thread     Thread, current_thread                                 src/thread/
plait.sync       Lock, RLock, Event, Condition, Semaphore, RWLock …      src/sync/
plait.aio        sleep, gather, to_thread, run, timeout                 src/aio/
plait.executors  ProcessPoolExecutor, Future, wait, as_completed        src/process/pool/
plait.parallel   map, explain                                           src/parallel/
plait.kernels    count_primes, mandelbrot, word_count, crc32            src/parallel/kernels/
plait.lab        compare, tour, workloads, models                       -
plait.lessons    the tutorial's sections, which the tour runs           -
plait.errors     PlaitError and its subclasses                          src/error.rs
===============  =====================================================  ==============

Importing plait imports none of them: each public name is fetched on first use, so that
``import plait`` costs little and never loads multiprocessing, asyncio or numpy.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own would cost half of the import time
if TYPE_CHECKING:
    from . import aio as aio
    from . import errors as errors
    from . import kernels as kernels
    from . import lab as lab
    from . import sync as sync
    from .executors import Future as Future
    from .executors import ProcessPoolExecutor as ProcessPoolExecutor
    from .executors import as_completed as as_completed
    from .executors import wait as wait
    from .kernels import cpu_count as cpu_count
    from .parallel import explain as explain
    from .parallel import map as map
    from .process import Process as Process
    from .process import active_children as active_children
    from .process import current_process as current_process
    from .process import get_context as get_context
    from .process import install as install
    from .process import parent_process as parent_process
    from .sync import BoundedSemaphore as BoundedSemaphore
    from .sync import Lock as Lock
    from .sync import Semaphore as Semaphore
    from .thread import Thread as Thread
    from .thread import current_thread as current_thread

# Where each public name lives; a module's own name stands for the module.
_HOMES = {
    "aio": "aio",
    "errors": "errors",
    "kernels": "kernels",
    "lab": "lab",
    "sync": "sync",
    "Future": "executors",
    "ProcessPoolExecutor": "executors",
    "as_completed": "executors",
    "wait": "executors",
    "cpu_count": "kernels",
    "explain": "parallel",
    "map": "parallel",
    "Process": "process",
    "active_children": "process",
    "current_process": "process",
    "get_context": "process",
    "install": "process",
    "parent_process": "process",
    "BoundedSemaphore": "sync",
    "Lock": "sync",
    "Semaphore": "sync",
    "Thread": "thread",
    "current_thread": "thread",
}

__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    module = importlib.import_module(f".{home}", __name__)
    value: object = module if home == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
