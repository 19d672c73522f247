"""The exit while daemon threads run Python code that Rust has called, one way a case.

Until 3.13 the exit unwinds such threads; through Rust's frames that aborted the process.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import PATIENCE

BEGIN = """
import threading, time
import plait

under_way = threading.Event()

def compute(*_):
    under_way.set()
    while True:
        sum(range(20))

class Item:
    '''Computes when it is compared, or freed, or pickled, once it was said to.'''
    how = None

    def __lt__(self, other):
        if Item.how == "compared":
            compute()
        return False

    def __del__(self):
        if Item.how == "freed":
            compute()

    def __reduce__(self):
        compute()

class Guard:
    '''A lock in Python.'''

    def __init__(self, slow):
        self.lock, self.slow = threading.RLock(), slow

    def acquire(self, *args):
        if self.slow == "acquire":
            compute()
        return self.lock.acquire(*args)

    def release(self):
        if self.slow == "release":
            compute()
        self.lock.release()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()

    def _is_owned(self):
        return True
"""

END = """
threading.Thread(target=work, daemon=True).start()
assert under_way.wait(30)
time.sleep(0.02)  # so that the exit meets it in the middle
"""

WAYS = {
    "a queue compares items": """
def work():
    queue = plait.PriorityQueue()
    for _ in range(5):
        queue.put(Item())
    Item.how = "compared"
    queue.get()
""",
    "a queue goes with its items": """
def work():
    queue = plait.SimpleQueue()
    queue.put(Item())
    Item.how = "freed"
    del queue
""",
    "a condition takes its lock": """
def work():
    with plait.Condition(Guard("acquire")):
        pass
""",
    "a condition lets go of its lock": """
def work():
    condition = plait.Condition(Guard("release"))
    condition.acquire()
    condition.wait(0.01)
""",
    "a pool pickles an argument": """
pool = plait.ProcessPoolExecutor(1)

def work():
    pool.submit(id, Item())
""",
    "a map pickles an argument": """
pool = plait.ProcessPoolExecutor(1)

def work():
    list(pool.map(id, [Item(), Item()]))
""",
    "a future calls back": """
def work():
    future = plait.Future()
    future.add_done_callback(compute)
    future.set_result(1)
""",
    "a loop steps a task": """
import asyncio

async def main():
    await plait.aio.sleep(0.001)
    compute()

def work():
    asyncio.run(main())
""",
}


@pytest.mark.parametrize("way", WAYS)
def test_the_exit_meets_python_below_rust(way: str) -> None:
    for _ in range(4):
        done = subprocess.run(
            [sys.executable, "-c", BEGIN + WAYS[way] + END],
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr.decode()) == (0, "")
