"""A trace's subprocesses: Python programs are traced too, and notice nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PATIENCE
from plait.lab import trace

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's clocks")

# What a program can see of how it was started.
LOOK = (
    "import json, os, sys\n"
    "print(json.dumps([sys.path, os.environ.get('PYTHONPATH'), sys.modules.get('sitecustomize') "
    "is not None and getattr(sys.modules['sitecustomize'], 'OF_THE_USER', None)]))"
)


def run(*command: str, **options: object) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE, check=True, **options)  # type: ignore[call-overload]
    return str(done.stdout.decode())


def python(code: str, *flags: str, **options: object) -> str:
    return run(sys.executable, *flags, "-c", code, **options)


def test_a_subprocess_has_lanes_with_its_threads_and_tasks() -> None:
    code = (
        "import asyncio, threading, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def work(): time.sleep(0.02)\n"
        "thread = threading.Thread(target=work, name='inner')\n"
        "thread.start(); thread.join()\n"
        "with ThreadPoolExecutor(1) as pool: pool.submit(work).result()\n"
        "async def main(): await asyncio.create_task(asyncio.sleep(0.02), name='nap')\n"
        "asyncio.run(main())\n"
    )
    with trace() as t:
        python(code)
    others = {lane.id: lane for lane in t.lanes if lane.pid != os.getpid()}
    names = {lane.name for lane in others.values()}
    assert {"inner", "nap"} <= names
    (main,) = [lane for lane in others.values() if lane.kind == "process"]
    assert main.name.startswith(os.path.basename(sys.executable))
    arrows = {(arrow.name, arrow.to_lane) for arrow in t.arrows}
    assert any(lane == main.id for _, lane in arrows)
    assert any(name == "work" and lane in others for name, lane in arrows)


def test_it_sees_neither_the_path_nor_the_variable(tmp_path: Path) -> None:
    plain = python(LOOK)
    with_path = python(LOOK, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    before = dict(os.environ)
    with trace():
        assert python(LOOK) == plain
        assert python(LOOK, env={**os.environ, "PYTHONPATH": str(tmp_path)}) == with_path
        assert python(LOOK, env={**os.environb, b"PYTHONPATH": os.fsencode(tmp_path)}) == with_path
        assert {**os.environ, "PLAIT_TRACE": ""} == {**before, "PLAIT_TRACE": ""}
        assert "json" in python("import json; print(sorted(json.__name__ for _ in '1'))", env={})
    assert subprocess.Popen.__init__.__name__ == "__init__"
    assert "plait" not in subprocess.Popen.__init__.__module__


@pytest.mark.parametrize("fails", [False, True])
def test_a_sitecustomize_of_the_users_own_is_run(tmp_path: Path, fails: bool) -> None:
    users = "OF_THE_USER = 1\n" + ("raise ValueError('mine')\n" if fails else "")
    (tmp_path / "sitecustomize.py").write_text(users)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    plain = python(LOOK, env=env, stderr=subprocess.PIPE)
    assert json.loads(plain)[2] is (False if fails else 1)
    with trace() as t:
        assert python(LOOK, env=env, stderr=subprocess.PIPE) == plain
    assert {lane.pid for lane in t.lanes} > {os.getpid()}


def test_shells_between_pass_it_on_and_isolated_ones_go_untraced() -> None:
    with trace() as t:
        run("/bin/sh", "-c", f"{sys.executable} -c 'import time; time.sleep(0.02)'; true")
    assert len({lane.pid for lane in t.lanes}) == 2
    with trace() as t:
        assert python("print(1)", "-I") == "1\n"
    assert {lane.pid for lane in t.lanes} == {os.getpid()}


def test_what_popen_refuses_it_still_refuses() -> None:
    with trace():
        with pytest.raises(FileNotFoundError):
            subprocess.run(["no such program of anybody's"], check=True)
        with pytest.raises((AttributeError, TypeError)):
            subprocess.run([sys.executable], env=3, check=True)  # type: ignore[call-overload]
        with pytest.raises(TypeError):
            subprocess.Popen()  # type: ignore[call-overload]
