"""The thread tests of `test.test_concurrent_futures` on `plait.ThreadPoolExecutor`; run by
test_cpython.py."""

from __future__ import annotations

import concurrent.futures
import importlib
from typing import Any

import on_plait
import plait

concurrent.futures.ThreadPoolExecutor = plait.ThreadPoolExecutor  # before the suite looks

PACKAGE = "test.test_concurrent_futures."
util: Any = importlib.import_module(PACKAGE + "util")
for name in ("as_completed", "init", "shutdown", "thread_pool", "wait"):
    module = importlib.import_module(f"{PACKAGE}test_{name}")
    for kind, value in list(vars(module).items()):
        if isinstance(value, type) and util.ThreadPoolMixin in value.__bases__:
            globals()[kind] = value

# Programs of the suite's own.
PROLOGUE = on_plait.PROLOGUE + (
    "import concurrent.futures as f; f.ThreadPoolExecutor = plait.ThreadPoolExecutor\n"
)
shutdown: Any = importlib.import_module(PACKAGE + "test_shutdown")
original = shutdown.assert_python_ok
shutdown.assert_python_ok = lambda *args, **options: original(
    *args[:-1], PROLOGUE + args[-1], **options
)
on_plait.skip(globals(), "thread_pool")
setUpModule = util.setup_module
