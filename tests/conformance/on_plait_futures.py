"""The process tests of `test.test_concurrent_futures` on the start method "plait".

PLAIT_TEST_EXECUTOR says with which executor: plait's own (``plait``), put in the place of
`concurrent.futures.ProcessPoolExecutor`, or that of the standard library (``stdlib``). Run by
test_cpython.py.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import unittest
from typing import Any

import on_plait
import plait

executor = os.environ["PLAIT_TEST_EXECUTOR"]
prologue = on_plait.PROLOGUE
if executor == "plait":
    concurrent.futures.ProcessPoolExecutor = plait.ProcessPoolExecutor  # before the suite looks
    prologue += (
        "import concurrent.futures as f; f.ProcessPoolExecutor = plait.ProcessPoolExecutor\n"
    )

PACKAGE = "test.test_concurrent_futures."
util = importlib.import_module(PACKAGE + "util")
MODULES = ("as_completed", "deadlock", "init", "process_pool", "shutdown", "wait")


class ProcessPoolPlaitMixin(util.ProcessPoolSpawnMixin):  # type: ignore[misc, name-defined]
    ctx = "plait"


def with_plait(module: Any) -> None:
    """Makes, of each test class that the module has for spawn, one for plait."""
    for name, value in list(vars(module).items()):
        if isinstance(value, type) and util.ProcessPoolSpawnMixin in value.__bases__:
            bases = tuple(
                ProcessPoolPlaitMixin if base is util.ProcessPoolSpawnMixin else base
                for base in value.__bases__
            )
            name = name.replace("Spawn", "Plait")
            globals()[name] = type(name, bases, {"__module__": __name__})


for name in MODULES:
    with_plait(importlib.import_module(f"{PACKAGE}test_{name}"))

init: Any = importlib.import_module(PACKAGE + "test_init")
shutdown: Any = importlib.import_module(PACKAGE + "test_shutdown")


class FailingInitializerResourcesTest(unittest.TestCase):
    def test_plait(self) -> None:
        tests = globals()["ProcessPoolPlaitFailingInitializerTest"]
        init.FailingInitializerResourcesTest._test(self, tests)


original = shutdown.assert_python_ok
shutdown.assert_python_ok = lambda *args, **options: original(
    *args[:-1], prologue + args[-1], **options
)
on_plait.skip(globals(), f"futures_{executor}")
setUpModule = util.setup_module
