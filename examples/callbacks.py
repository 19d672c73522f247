"""Results retrieved later, via callbacks: the standard library and plait side by side.

The main thread hands out its tasks and goes on; each result is dealt with as it comes, by the
thread that has it. Run it: ``python examples/callbacks.py``.
"""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import time

import plait

DELAY_S = float(sys.argv[1]) if len(sys.argv) > 1 else 0.1


def slow_square(n: int) -> int:
    time.sleep(DELAY_S)
    return n * n


def report(future: concurrent.futures.Future[int]) -> None:
    """A callback: it gets the future, which is done, so `result` does not wait."""
    # One write, so that lines of two threads do not mix.
    print(f"  {future.result()} (told by {threading.current_thread().name})\n", end="")


def run(kind: type[concurrent.futures.ThreadPoolExecutor]) -> None:
    print(f"{kind.__module__}.{kind.__name__}:")
    with kind(max_workers=3, thread_name_prefix="worker") as pool:
        for n in range(3):
            pool.submit(slow_square, n).add_done_callback(report)
        print("  handed out; the main thread is free")


def main() -> None:
    run(concurrent.futures.ThreadPoolExecutor)
    run(plait.ThreadPoolExecutor)


if __name__ == "__main__":
    main()
