"""CPython's own suites, run on plait: from the running interpreter's `test` package."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SKIPS = tomllib.loads((Path(__file__).parent / "skips.toml").read_text())

MULTIPROCESSING = """
import unittest
import plait

plait.install()

import test._test_multiprocessing as suite

suite.install_tests_in_module_dict(globals(), "plait")
for name, reason in {skips!r}:
    kind, method = name.split(".")
    setattr(globals()[kind], method, unittest.skip(reason)(lambda self: None))
if __name__ == "__main__":
    unittest.main(verbosity=2)
"""

# The standard library's thread pool makes plait's futures here, so its suites of what futures,
# wait() and as_completed() do run on those.
FUTURES = """
import sys
import unittest
import concurrent.futures
import concurrent.futures.thread
import plait

concurrent.futures._base.Future = concurrent.futures.Future = plait.Future

from test.test_concurrent_futures import {names}
from test.test_concurrent_futures.test_future import *

for suite in {names}:
    for name, case in vars(suite).items():
        if name.startswith("ThreadPool") and isinstance(case, type):
            globals()[name] = case
for name, reason in {skips!r}:
    kind, method = name.split(".")
    setattr(globals()[kind], method, unittest.skip(reason)(lambda self: None))
del suite, case
if __name__ == "__main__":
    unittest.main(verbosity=2)
"""


def run_suite(folder: Path, source: str, timeout: float) -> int:
    """Runs the suite that a module's source makes up, and returns how many tests it had."""
    (folder / "on_plait.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", "on_plait"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    failed = re.findall(r"^(?:FAIL|ERROR): .*", done.stderr, re.MULTILINE)
    assert done.returncode == 0, "\n".join(failed) or done.stderr[-2000:]
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran is not None
    return int(ran[1])


def skips(area: str) -> list[tuple[str, str]]:
    return [(skip["test"], skip["reason"]) for skip in SKIPS.get(area, [])]


@pytest.mark.timeout(300)
def test_futures(tmp_path: Path) -> None:
    if importlib.util.find_spec("test.test_concurrent_futures") is None:
        pytest.skip("this interpreter has no test package with the suite")
    names = ", ".join(["test_as_completed", "test_future", "test_thread_pool", "test_wait"])
    source = FUTURES.format(names=names, skips=skips("futures"))
    assert run_suite(tmp_path, source, 280) > 40


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_multiprocessing(tmp_path: Path) -> None:
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        pytest.skip("this interpreter has no test package")
    source = MULTIPROCESSING.format(skips=skips("multiprocessing"))
    assert run_suite(tmp_path, source, 1100) > 300
