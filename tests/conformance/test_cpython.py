"""CPython's own suites, run on plait: from the running interpreter's `test` package."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SKIPS: dict[str, list[dict[str, Any]]] = tomllib.loads((HERE / "skips.toml").read_text())

# What a suite skips of itself says why: as the reason of other kinds of tests, or these.
NOT_FOR_PLAIT = ("for plait", "start_method=", "'forkserver' method")


def run(module: str, tmp_path: Path, **environment: str) -> tuple[int, dict[str, str]]:
    """Runs one of the runners beside this file.

    Returns:
        How many tests ran, and the reason of each that was skipped.
    """
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-v", module],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1100,
        env={**os.environ, **environment, "PYTHONPATH": str(HERE)},
    )
    failed = re.findall(r"^(?:FAIL|ERROR): .*", done.stderr, re.MULTILINE)
    assert done.returncode == 0, "\n".join([*failed, done.stderr[-5000:]])
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran is not None
    found = re.findall(r"^(\w+) \(\w+\.(\w+)[.)].*skipped (.*)$", done.stderr, re.MULTILINE)
    return int(ran[1]), {f"{kind}.{method}": reason for method, kind, reason in found}


def needs(package: str) -> None:
    if importlib.util.find_spec("test") is None or importlib.util.find_spec(package) is None:
        pytest.skip(f"this interpreter has no {package}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("start", ["zygote", "spawn"])
def test_multiprocessing(tmp_path: Path, start: str) -> None:
    needs("test._test_multiprocessing")
    ran, skipped = run("on_plait_multiprocessing", tmp_path, PLAIT_START=start)
    assert ran > 300
    ours = {name for name, why in skipped.items() if any(part in why for part in NOT_FOR_PLAIT)}
    named = {entry["test"] for entry in SKIPS["multiprocessing"]}
    assert ours - ALSO_FOR_ONE_METHOD <= named


# Once for all start methods is enough, says the suite, and names spawn or fork.
ALSO_FOR_ONE_METHOD = {
    "MiscTestCase.test_spawn_sys_executable_none_allows_import",
    "TestNamedResource.test_global_named_resource_spawn",
    "TestStartMethod.test_mixed_startmethod",
}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("executor", ["stdlib", "plait"])
def test_concurrent_futures(tmp_path: Path, executor: str) -> None:
    needs("test.test_concurrent_futures")
    ran, _ = run("on_plait_futures", tmp_path, PLAIT_TEST_EXECUTOR=executor)
    assert ran > 60


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("runner", "suite", "least"),
    [
        ("on_plait_threads", "test.test_concurrent_futures", 40),
        ("on_plait_threading", "test.test_threading", 100),
        ("on_plait_thread", "test.test_thread", 15),
    ],
)
def test_threads(tmp_path: Path, runner: str, suite: str, least: int) -> None:
    needs(suite)
    ran, _ = run(runner, tmp_path)
    assert ran > least


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("suite", "at_least"), [("locks", 80), ("queue", 25)])
def test_synchronization(tmp_path: Path, suite: str, at_least: int) -> None:
    needs("test.lock_tests")
    ran, skipped = run(f"on_plait_{suite}", tmp_path)
    assert ran >= at_least
    ours = {name for name, why in skipped.items() if any(part in why for part in NOT_FOR_PLAIT)}
    assert ours <= {entry["test"] for entry in SKIPS.get(suite, [])}


@pytest.mark.timeout(300)
def test_streams(tmp_path: Path) -> None:
    needs("test.test_asyncio")
    ran, _ = run("on_plait_streams", tmp_path)
    assert ran > 35  # 3.12 does not count those that are skipped


@pytest.mark.parametrize("entry", [e for entries in SKIPS.values() for e in entries], ids=str)
def test_what_is_skipped_has_a_reason_and_a_replacement(entry: dict[str, Any]) -> None:
    assert entry["reason"]
    path, _, function = entry["replacement"].partition("::")
    tree = ast.parse((HERE.parents[1] / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
