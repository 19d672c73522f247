"""Synchronous Execution

Synchronous means that a call returns when its work is done, and only then does the caller go
on. The tasks below run one after the other in the order of the code; nothing overlaps, and
the whole takes the sum of its parts. This is what every plain function call does: easiest
to follow, and the measure for all that comes after.
"""

import time
from functools import partial

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span

PAGES = ["index", "news", "about"]


def fetch(page: str, delay: float) -> str:
    print(f"Fetching {page}")
    with span(page, "sleep"):  # a stand-in for a slow network
        time.sleep(delay)
    print(f"Fetched {page}")
    return f"<h1>{page}</h1>"


def with_stdlib(delay: float) -> None:
    contents = [fetch(page, delay) for page in PAGES]
    print(f"Only now are the results here: {contents}")


def with_plait(delay: float) -> None:
    fetch_slowly = partial(fetch, delay=delay)
    contents = list(plait.map(fetch_slowly, PAGES, how="serial"))
    print(f"Only now are the results here: {contents}")


if __name__ == "__main__":
    main(with_stdlib, with_plait)
