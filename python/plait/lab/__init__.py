"""The lab: the same work under every model, side by side, measured, and checked to agree.

`compare` runs a workload, or any callable over items, serially, with threads, processes and
coroutines, from the standard library and from plait, and in Rust where there is a kernel, and
gives a `Report`. The command line's ``plait compare`` is the same from a shell.
"""

from .compare import compare
from .models import Model, models
from .report import Cell, Report, Row
from .workloads import Workload, workloads

__all__ = ["Cell", "Model", "Report", "Row", "Workload", "compare", "models", "workloads"]
