"""Makes the README's pictures from real runs on this machine: `python docs/pictures.py`.

timeline.png: the same six pieces of work, each some computing and then a wait, in series,
in two threads and in two processes. compare.png: `plait.lab.compare` on the primes.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import plait
from plait.lab.lanes import draw_png
from plait.lab.timeline import Timeline, record, span

HERE = Path(__file__).parent
COMPUTE_S, WAIT_S, PIECES = 0.06, 0.03, 3
BUSY = 0.25  # the load per core above which measuring makes no sense
RUNS = 7  # of which the fastest is drawn: the one that the machine's other work disturbed least


def compute() -> None:
    """Use up a fixed time of the processor, in slices short enough to show who has the GIL."""
    end = time.thread_time() + COMPUTE_S
    while time.thread_time() < end:
        with span("compute", "gil"):
            sum(range(2_000))


def pieces() -> None:
    for _ in range(PIECES):
        compute()
        with span("wait", "sleep"):
            time.sleep(WAIT_S)


def in_series() -> None:
    pieces()
    pieces()


def in_two(worker_class: Callable[..., plait.Thread | plait.Process]) -> None:
    workers = [worker_class(target=pieces, name=name) for name in ("one", "two")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def measure(work: Callable[[], None]) -> Timeline:
    timelines = []
    for _ in range(RUNS):
        with record() as recording:
            work()
        timelines.append(recording.timeline)
    return min(timelines, key=lambda timeline: timeline.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=HERE, help="where they go")
    parser.add_argument("--busy", action="store_true", help="also while the machine is busy")
    options = parser.parse_args()
    # Threads and processes that share their cores with other programs show nothing but that.
    load = os.getloadavg()[0]
    if load > BUSY * plait.cpu_count() and not options.busy:
        parser.error(f"the machine is busy (load {load:.1f}): wait, or see --busy")
    folder = options.folder
    in_two(plait.Process)  # the first also starts the zygote: not what is compared here
    timelines = {
        "Serial": measure(in_series),
        "Two threads: waits overlap, computing takes turns": measure(lambda: in_two(plait.Thread)),
        "Two processes: everything overlaps": measure(lambda: in_two(plait.Process)),
    }
    draw_png(folder / "timeline.png", timelines)
    plait.lab.compare("primes").save(folder / "compare.png")


if __name__ == "__main__":
    main()
