"""plait's row of the fault matrix: each case is a program of its own, see `matrix`."""

from __future__ import annotations

import pytest
from matrix import cases, hostile, lacks, parents, run, trial

__all__ = ["cases", "hostile", "lacks", "parents"]

pytestmark = pytest.mark.once

# Many deaths, or gigabytes: a minute's work on a busy machine.
SLOW = {"huge"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in trial.CASES],
)
@pytest.mark.timeout(1000)
def test_survives(name: str) -> None:
    verdict = run.run("plait", name, slack=5)
    assert verdict.offered, verdict.output
    assert not verdict.failures(), f"{verdict.failures()}\n{verdict.output}"
