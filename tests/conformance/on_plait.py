"""What the runners of CPython's suites share; see test_cpython.py."""

from __future__ import annotations

import sys
import tomllib
import unittest
from pathlib import Path
from typing import Any

import plait

SKIPS = tomllib.loads((Path(__file__).parent / "skips.toml").read_text())

# Programs of the suites' own that name the start method run in interpreters of their own, which
# may be told to forget PYTHONPATH and site-packages (-I, -S) and do not know plait.
PROLOGUE = f"""
import sys
sys.path[:] = {[entry for entry in sys.path if isinstance(entry, str)]!r}
import plait
plait.install()
"""


def skip(namespace: dict[str, Any], suite: str) -> None:
    """Puts skips.toml in force: test classes of a runner's namespace that are, or derive from,
    the suite's class of that name."""
    for entry in SKIPS.get(suite, []):
        if not entry.get("by_suite", False):
            kind, method = entry["test"].split(".")
            for value in list(namespace.values()):
                if _is_test(value) and kind in (base.__name__ for base in value.__mro__):
                    there = hasattr(value, method)
                    assert there or entry.keys() & {"since", "until"}, entry
                    if there:
                        skipped = unittest.skip(entry["reason"])(lambda self: None)
                        setattr(value, method, skipped)


def _is_test(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, unittest.TestCase)


plait.install()
