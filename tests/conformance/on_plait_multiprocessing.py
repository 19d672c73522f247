"""`test._test_multiprocessing` with the start method "plait"; run by test_cpython.py."""

from __future__ import annotations

import subprocess
from typing import Any
from unittest import mock

import on_plait
import test._test_multiprocessing as suite

suite.install_tests_in_module_dict(globals(), "plait")


def _check_output(command: list[str], **options: Any) -> bytes:
    """As subprocess.check_output, of a program that is told of plait first."""
    return subprocess.run(
        [*command[:-1], on_plait.PROLOGUE + command[-1]], check=True, stdout=-1, **options
    ).stdout


# Its program runs without site-packages (-S), and looks up the start method by its name.
TestFlags: Any = globals()["TestFlags"]
TestFlags.test_flags = mock.patch.object(suite.subprocess, "check_output", _check_output)(
    TestFlags.test_flags
)
on_plait.skip(globals(), "multiprocessing")
