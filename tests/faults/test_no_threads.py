"""Where the user may have no more processes or threads (RLIMIT_NPROC): errors, no hang."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from conftest import PATIENCE

if sys.platform != "linux":
    pytest.skip("a limit of Linux", allow_module_level=True)

NOBODY = 65534  # root has no limit
WORK = """
import asyncio, resource, sys
import plait

def pool():
    with plait.ProcessPoolExecutor(3) as pool:
        return list(pool.map(abs, range(-4, 0)))

def process():
    child = plait.Process(target=int)
    child.start()
    child.join()
    return child.exitcode

def thread():
    child = plait.Thread(target=int)
    child.start()
    return child.result()

def thread_pool():
    with plait.ThreadPoolExecutor(3) as pool:
        return list(pool.map(abs, range(-4, 0)))

def coroutine():
    async def main():
        await plait.aio.sleep(0.001)
        return await plait.aio.to_thread(abs, -3)

    return asyncio.run(main())

def native():
    return plait.kernels.count_primes(1000)

if __name__ == "__main__":
    most = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    for work in (pool, process, thread, thread_pool, coroutine, native):
        try:
            print(work.__name__, work())
        except (RuntimeError, OSError) as error:
            print(work.__name__, "refused:", error)
"""
DONE = [
    "pool [4, 3, 2, 1]",
    "process 0",
    "thread 0",
    "thread_pool [4, 3, 2, 1]",
    "coroutine 3",
    "native 168",
]


def as_nobody(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        user=NOBODY,
        group=NOBODY,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def reachable() -> None:
    try:
        done: Any = as_nobody("import plait")
    except PermissionError:
        done = None
    if done is None or done.returncode:
        pytest.skip("only root can become another user, who has to be able to read this Python")


@pytest.mark.parametrize("most", [1, 2, 4, 8, 100])
@pytest.mark.usefixtures("reachable")
def test_a_limit_of_processes_and_threads(most: int) -> None:
    done = as_nobody(WORK, str(most))
    assert done.returncode == 0, done.stderr
    assert "panicked" not in done.stderr
    lines = done.stdout.splitlines()
    for line, expected in zip(lines, DONE, strict=True):
        name = expected.split()[0]
        assert line == expected or line.startswith(f"{name} refused: "), done.stdout
    assert most < 100 or lines == DONE, done.stderr
