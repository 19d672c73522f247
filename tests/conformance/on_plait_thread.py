"""`test.test_thread` on `plait.Lock`; run by test_cpython.py.

The suite is of the module `_thread`. What plait has in its place is the lock: a thread of
`start_new_thread` has no object that `plait.Thread` could be.
"""

from __future__ import annotations

import types
import unittest

import on_plait
import plait
import test.test_thread as suite

suite.thread = types.SimpleNamespace(**{**vars(suite.thread), "allocate_lock": plait.Lock})
suite.LockTests.locktype = staticmethod(plait.Lock)

for kind, value in list(vars(suite).items()):
    if isinstance(value, type) and issubclass(value, unittest.TestCase):
        globals()[kind] = value

on_plait.skip(globals(), "thread")
