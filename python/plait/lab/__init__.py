"""The lab: the same work under every model, side by side, measured, and checked to agree.

`compare` runs a workload, or any callable over items, serially, with threads, processes and
coroutines, from the standard library and from plait, and in Rust where there is a kernel, and
gives a `Report`. `tour` runs the tutorial's sections with the standard library and with plait
beside each other. `trace` draws what each thread, task and process of a block did. `race` finds
an interleaving of threads that breaks a promise, and `races` has classic ones. The commands
``plait compare``, ``plait tour``, ``plait trace`` and ``plait race`` are the same from a shell.
"""

from .compare import compare
from .models import Model, models
from .race import RaceReport, race
from .report import Cell, Report, Row
from .tour import TourResult, tour
from .trace import Trace, trace
from .workloads import Workload, workloads

__all__ = [
    "Cell",
    "Model",
    "RaceReport",
    "Report",
    "Row",
    "TourResult",
    "Trace",
    "Workload",
    "compare",
    "models",
    "race",
    "tour",
    "trace",
    "workloads",
]
