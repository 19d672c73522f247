"""A deadlock that explains itself.

Two threads take the same two locks in opposite orders. With `threading` this program stands
still for ever; with plait one of the two is told who waits for whom, and where.
"""

import plait
from plait.errors import DeadlockError


def transfer(first: plait.Lock, second: plait.Lock, ready: plait.Barrier) -> str:
    name = plait.current_thread().name
    try:
        with first:
            ready.wait()  # both have their first lock now
            with second:
                return f"{name}: done"
    except DeadlockError as error:
        return f"{name}: {error}"


def main() -> None:
    plait.sync.record_places(True)  # so that it also tells where each lock was taken
    savings, checking, ready = plait.Lock(), plait.Lock(), plait.Barrier(2)
    threads = [
        plait.Thread(target=transfer, args=(savings, checking, ready), name="to checking"),
        plait.Thread(target=transfer, args=(checking, savings, ready), name="to savings"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        print(thread.result())
    print()
    print(plait.sync.lock_order_report())


if __name__ == "__main__":
    main()
