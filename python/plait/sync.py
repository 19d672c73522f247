"""Locks and their kin, for threads, coroutines and Rust tasks on one object."""

from __future__ import annotations

from ._core import BoundedSemaphore, Lock, Semaphore

__all__ = ["BoundedSemaphore", "Lock", "Semaphore"]
