"""`test.lock_tests` on plait's synchronization; run by test_cpython.py."""

from __future__ import annotations

import on_plait
import plait
import test.lock_tests as suite


class LockTests(suite.LockTests):
    locktype = staticmethod(plait.Lock)


class RLockTests(suite.RLockTests):
    locktype = staticmethod(plait.RLock)


class EventTests(suite.EventTests):
    eventtype = staticmethod(plait.Event)


class ConditionAsRLockTests(suite.RLockTests):
    locktype = staticmethod(plait.Condition)


class ConditionTests(suite.ConditionTests):
    condtype = staticmethod(plait.Condition)


class SemaphoreTests(suite.SemaphoreTests):
    semtype = staticmethod(plait.Semaphore)


class BoundedSemaphoreTests(suite.BoundedSemaphoreTests):
    semtype = staticmethod(plait.BoundedSemaphore)


class BarrierTests(suite.BarrierTests):
    barriertype = staticmethod(plait.Barrier)


on_plait.skip(globals(), "locks")
