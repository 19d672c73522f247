"""The tests of `test.test_threading` for threads, on `plait.Thread`; run by test_cpython.py."""

from __future__ import annotations

import threading
import unittest
from typing import Any

import on_plait
import plait

threading.Thread = plait.Thread  # type: ignore[misc]  # before the suite looks

import test.test_threading as suite  # noqa: E402

PROLOGUE = on_plait.PROLOGUE + "import threading; threading.Thread = plait.Thread\n"

for kind, value in list(vars(suite).items()):
    if isinstance(value, type) and issubclass(value, unittest.TestCase):
        globals()[kind] = value


def with_prologue(original: Any) -> Any:
    def run(*arguments: str, **options: Any) -> Any:
        at = arguments.index("-c") + 1
        source = PROLOGUE + arguments[at]
        return original(*arguments[:at], source, *arguments[at + 1 :], **options)

    return run


suite.assert_python_ok = with_prologue(suite.assert_python_ok)
suite.assert_python_failure = with_prologue(suite.assert_python_failure)
on_plait.skip(globals(), "threading")
setUpModule = getattr(suite, "setUpModule", lambda: None)
