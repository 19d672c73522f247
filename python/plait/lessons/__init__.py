"""The tutorial's sections, each a small program that runs alone.

A module here holds one section: its docstring is the explanation, its functions named
``with_…`` do the same thing with the standard library, with plait and, where there is one,
with another library. `plait tour` shows and runs them all; the scripts in ``examples/`` are
links to these very files, so that what a learner reads and changes there is what the tour
runs, and nothing is written twice.
"""

from __future__ import annotations

__all__ = ["SECTIONS"]

# A module's name -> the tutorial's heading, in the tutorial's order.
SECTIONS = {
    "processes": "Processes",
    "threads": "Threads",
    "coroutines": "Coroutines",
    "synchronous": "Synchronous Execution",
    "asynchronous": "Asynchronous Execution",
    "blocking": "Blocking Operations",
    "non_blocking": "Non-blocking Operations",
    "concurrency": "Concurrency",
    "parallelism": "Parallelism",
    "serial": "Serial Execution",
}
