"""Finds a race, shows it step by step, mends it, and shows that the mended program has none left.

Run as ``python examples/more/race.py``; ``plait race`` has more of them.
"""

import threading

from plait.lab import race


class Stock:
    """What a shop has of something."""

    def __init__(self) -> None:
        self.left = 1
        self.sold = 0
        self.lock = threading.Lock()


def sell(stock: Stock) -> None:
    if stock.left > 0:  # another one may sell it now
        stock.left -= 1
        stock.sold += 1


def sell_safely(stock: Stock) -> None:
    with stock.lock:
        sell(stock)


def not_oversold(stock: Stock) -> bool:
    return stock.sold <= 1


def main() -> None:
    report = race(Stock, [sell, sell], not_oversold)
    print(report)
    print()
    print("replayed twice:", report.replay().sold, "and", report.replay().sold, "sold")

    with report.step() as run:  # you are the scheduler
        run.forward(0)
        run.forward(0)
        print("thread 1 alone, two steps on:", run.state.left, "left;", run.threads[1].next)
        run.back()
    print()
    print(race(Stock, [sell_safely, sell_safely], not_oversold))


if __name__ == "__main__":
    main()
