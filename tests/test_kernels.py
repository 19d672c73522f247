"""The native kernels: results, bad input, threads, forks and ^C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from collections import Counter
from typing import Any

import pytest
from conftest import PATIENCE
from plait import kernels


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_results(workers: int | None) -> None:
    assert kernels.count_primes(1000, workers) == 168
    image = kernels.mandelbrot(30, 20, 64, workers)
    assert (image.shape, image.format, image.readonly) == ((20, 30), "I", True)
    assert image == kernels.mandelbrot(30, 20, 64, 1)
    texts = ["a b\ta\n", "", "b  ü\x1cü", "x" * 200_000 + " a" * 70_000]
    assert kernels.word_count(texts, workers) == Counter(" ".join(texts).split())
    buffers = [b"", b"abc", bytearray(3_000_000), memoryview(b"xyz")]
    assert kernels.crc32(buffers, workers) == [zlib.crc32(b) for b in buffers]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.count_primes(-1), ValueError, "n must be at least 0, got -1"),
        (lambda: kernels.count_primes(9, workers=0), ValueError, "workers.*got 0"),
        (lambda: kernels.mandelbrot(0, 5, 5), ValueError, "width.*got 0"),
        (lambda: kernels.mandelbrot(2**40, 2**40, 5), MemoryError, "does not fit"),
        (lambda: kernels.mandelbrot(1, 1, 2**33), ValueError, "max_iter"),
        (lambda: kernels.word_count("text"), TypeError, "pass \\[text\\]"),
        (lambda: kernels.word_count(["a", 1]), TypeError, "texts\\[1\\]"),  # type: ignore[list-item]
        (lambda: kernels.crc32([b"", "a"]), TypeError, "buffers\\[1\\]"),  # type: ignore[list-item]
        (lambda: kernels.crc32([memoryview(b"abcd")[::2]]), TypeError, "buffers\\[0\\]"),
    ],
)
def test_bad_input(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_kernel_releases_the_gil() -> None:
    # With the GIL held, this thread would stand still until the end, each time; without, it does
    # so now and then, on a busy machine.
    assert any(steps_meanwhile() > 1000 for _ in range(20))


def steps_meanwhile() -> int:
    running, seen = threading.Event(), []

    def work() -> None:
        running.set()
        kernels.count_primes(3_000_000, workers=1)
        seen.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    running.wait()
    steps = 0
    while not seen:
        steps += 1
    thread.join()
    return steps


def test_in_a_forked_child() -> None:
    kernels.count_primes(1000)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, plait\n"
            "plait.kernels.count_primes(1000)\n"
            "pid = os.fork()\n"
            "assert plait.kernels.count_primes(10_000) == 1229\n"
            "if pid: assert os.waitpid(pid, 0)[1] == 0\n",
        ],
        timeout=PATIENCE,
    )
    assert done.returncode == 0


def test_interrupt_ends_a_kernel() -> None:
    code = "import plait; print('go', flush=True); plait.kernels.count_primes(10**15)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        os.kill(run.pid, signal.SIGINT)
        _, err = run.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in err


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_the_affinity_of_now_counts() -> None:
    source = """if True:
        import os, plait
        before = plait.cpu_count()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        assert 1 <= before <= os.cpu_count()
        assert plait.cpu_count() == 1
        """
    subprocess.run([sys.executable, "-c", source], check=True, timeout=PATIENCE)
