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


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_multiprocessing(tmp_path: Path) -> None:
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        pytest.skip("this interpreter has no test package")
    skips = [(skip["test"], skip["reason"]) for skip in SKIPS["multiprocessing"]]
    module = tmp_path / "on_plait.py"
    module.write_text(MULTIPROCESSING.format(skips=skips))
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", "on_plait"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1100,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    failed = re.findall(r"^(?:FAIL|ERROR): .*", done.stderr, re.MULTILINE)
    assert done.returncode == 0, "\n".join(failed) or done.stderr[-2000:]
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) > 300
