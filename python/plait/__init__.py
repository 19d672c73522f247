"""Processes, threads, coroutines and parallel maps for Python on a Rust core.

Layout: one concept, one name, in Rust and in Python.

===============  =====================================================  ==============
module           what it holds                                          engine
===============  =====================================================  ==============
plait.process    Process, get_context, install, current_process …       src/process/
plait.thread     Thread, current_thread                                 src/thread/
plait.sync       Lock, Event, Condition, Semaphore, RWLock, Queue …     src/sync/
plait.aio        sleep, gather, to_thread, run, timeout                 src/aio/
plait.executors  ThreadPoolExecutor, ProcessPoolExecutor, Future …      src/thread/pool/,
                                                                        src/process/pool/
plait.parallel   map, explain                                           src/parallel/
plait.atomic     AtomicInt, AtomicRef, AtomicCounter                    src/atomic/
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
    from . import atomic as atomic
    from . import errors as errors
    from . import kernels as kernels
    from . import lab as lab
    from . import sync as sync
    from .executors import Future as Future
    from .executors import ProcessPoolExecutor as ProcessPoolExecutor
    from .executors import ThreadPoolExecutor as ThreadPoolExecutor
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
    from .sync import Barrier as Barrier
    from .sync import BoundedSemaphore as BoundedSemaphore
    from .sync import Condition as Condition
    from .sync import Empty as Empty
    from .sync import Event as Event
    from .sync import Full as Full
    from .sync import LifoQueue as LifoQueue
    from .sync import Lock as Lock
    from .sync import PriorityQueue as PriorityQueue
    from .sync import Queue as Queue
    from .sync import RLock as RLock
    from .sync import RWLock as RWLock
    from .sync import Semaphore as Semaphore
    from .sync import ShutDown as ShutDown
    from .sync import SimpleQueue as SimpleQueue
    from .thread import Thread as Thread
    from .thread import current_thread as current_thread

# Where each public name lives; a module's own name stands for the module.
_HOMES = {
    "aio": "aio",
    "atomic": "atomic",
    "errors": "errors",
    "kernels": "kernels",
    "lab": "lab",
    "sync": "sync",
    "Future": "executors",
    "ProcessPoolExecutor": "executors",
    "ThreadPoolExecutor": "executors",
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
    "Barrier": "sync",
    "BoundedSemaphore": "sync",
    "Condition": "sync",
    "Event": "sync",
    "Lock": "sync",
    "RLock": "sync",
    "RWLock": "sync",
    "Semaphore": "sync",
    "SimpleQueue": "sync",
    "ShutDown": "sync",
    "Queue": "sync",
    "PriorityQueue": "sync",
    "LifoQueue": "sync",
    "Full": "sync",
    "Empty": "sync",
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


def load_ipython_extension(shell: object) -> None:
    """What ``%load_ext plait`` runs: gives the shell ``%plait`` and ``%%plait``."""
    from .lab.magics import PlaitMagics

    shell.register_magics(PlaitMagics)  # type: ignore[attr-defined]
