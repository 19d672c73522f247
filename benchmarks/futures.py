"""plait.Future against concurrent.futures.Future: both in this run, in turns, the best of each.

Read the ratios; the absolute figures are this machine's.
"""

from __future__ import annotations

import concurrent.futures
import timeit
from collections.abc import Callable

import plait

ROUNDS, CALLS = 7, 50_000

Kind = type[concurrent.futures.Future[object]]


def complete(kind: Kind) -> Callable[[], object]:
    def job() -> object:
        future = kind()
        future.set_result(None)
        return future.result()

    return job


def call_back(kind: Kind) -> Callable[[], object]:
    def job() -> None:
        future = kind()
        future.add_done_callback(id)
        future.set_result(None)

    return job


def cancel(kind: Kind) -> Callable[[], object]:
    return lambda: kind().cancel()


def ask(kind: Kind) -> Callable[[], object]:
    future = kind()
    future.set_result(None)
    return future.result


def wait(kind: Kind) -> Callable[[], object]:
    future = kind()
    future.set_result(None)
    return lambda: concurrent.futures.wait([future])


JOBS: dict[str, Callable[[Kind], Callable[[], object]]] = {
    "make": lambda kind: kind,
    "make, set_result, result": complete,
    "make, add_done_callback, set_result": call_back,
    "make, cancel": cancel,
    "result() of one that is done": ask,
    "wait() for one that is done": wait,
}


def main() -> None:
    print(f"{'job':38}{'plait':>10}{'stdlib':>10}{'ratio':>9}")
    for name, job in JOBS.items():
        calls = [job(plait.Future), job(concurrent.futures.Future)]
        best = [float("inf")] * 2
        for _ in range(ROUNDS):
            best = [
                min(seen, timeit.timeit(call, number=CALLS) / CALLS)
                for seen, call in zip(best, calls, strict=True)
            ]
        ours, theirs = best
        print(f"{name:38}{ours * 1e9:7.0f} ns{theirs * 1e9:7.0f} ns{theirs / ours:8.1f}x")


if __name__ == "__main__":
    main()
