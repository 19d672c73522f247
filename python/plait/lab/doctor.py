"""What this machine and this Python offer to each model, and what to install for more."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..kernels import cpu_count
from .compare import environment

__all__ = ["examine", "findings_table"]

# What each model or form of a report needs -> how to get it.
_NEEDS = {
    "gevent": ("the gevent model", "pip install gevent"),
    "uvloop": ("the uvloop model", "pip install uvloop"),
    "joblib": ("the joblib model", "pip install joblib"),
    "dask": ("the dask model", "pip install 'dask[distributed]'"),
    "matplotlib": ("charts (.png, .svg, .html)", "pip install 'plait[lab]'"),
    "jinja2": ("pages (.html)", "pip install 'plait[lab]'"),
    "pandas": ("Report.to_pandas()", "pip install pandas"),
    "IPython": ("notebooks", "pip install 'plait[notebook]'"),
}


def examine() -> dict[str, Any]:
    """Look, without importing or starting anything.

    Returns:
        ``environment``, ``cores`` (the machine's, the affinity mask's, and what the cgroup's
        quota leaves), and ``parts``, one a library: ``needed_for``, ``installed``, ``install``.

    >>> from plait.lab.doctor import examine
    >>> examine()["cores"]["usable"] >= 1
    True
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "environment": environment(),
        "cores": {"machine": os.cpu_count(), "affinity": affinity, "usable": cpu_count()},
        "parts": {
            name: {
                "needed_for": purpose,
                "installed": importlib.util.find_spec(name) is not None,
                "install": install,
            }
            for name, (purpose, install) in _NEEDS.items()
        },
    }


def findings_table(findings: dict[str, Any]) -> RenderableType:
    """The findings as two tables for the terminal."""
    here = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    for name, value in findings["environment"].items():
        here.add_row(name, value)
    cores = findings["cores"]
    if cores["affinity"] is not None and cores["usable"] < cores["affinity"]:
        here.add_row("", f"the quota leaves {cores['usable']} of {cores['affinity']} cores")
    parts = Table("library", "needed for", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, part in findings["parts"].items():
        state = Text("installed") if part["installed"] else Text(part["install"], "yellow")
        parts.add_row(name, part["needed_for"], state)
    return Group(here, parts)
