"""What else went on on the machine while something was measured."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from ..kernels import cpu_count

__all__ = ["Noise", "NoiseMeter"]


@dataclass(frozen=True)
class Noise:
    """The machine's noise, each None where it cannot be told.

    Attributes:
        steal: the share of the cores' time that the hypervisor gave to other machines.
        others: the share of the cores' time that other programs used.
        load: the load average of the last minute, a core.
    """

    steal: float | None = None
    others: float | None = None
    load: float | None = None

    def words(self) -> str:
        """What is worth a warning; empty if it was quiet."""
        said = []
        if (self.others or 0) >= 0.1:
            said.append(f"other programs used {self.others:.0%} of the cores' time")
        if (self.steal or 0) >= 0.02:
            said.append(f"the hypervisor took {self.steal:.0%} of it")
        if not said:
            return ""
        text = " and ".join(said)
        return f"The machine was noisy: {text}, so small differences mean nothing here."


def _jiffies() -> tuple[float, float, float] | None:
    """All cores' seconds: in total, busy, stolen."""
    try:
        with open("/proc/stat", "rb") as file:
            numbers = [int(word) for word in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, idle, iowait, irq, softirq, steal = numbers
    tick = os.sysconf("SC_CLK_TCK")
    busy = user + nice + system + irq + softirq
    return (busy + idle + iowait + steal) / tick, busy / tick, steal / tick


def _own() -> float:
    """Seconds on the CPU of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class NoiseMeter:
    """Measures from when it is made until `read`."""

    def __init__(self) -> None:
        self._began, self._jiffies, self._used = time.monotonic(), _jiffies(), _own()

    def read(self, running: float = 0.0) -> Noise:
        """The noise so far.

        Args:
            running: what processes of ours that go on have used, in seconds on the CPU.
        """
        now = _jiffies()
        try:
            load = os.getloadavg()[0] / cpu_count()
        except (OSError, AttributeError):
            load = None
        if now is None or self._jiffies is None or now[0] - self._jiffies[0] < 0.5:
            return Noise(load=load)
        total = now[0] - self._jiffies[0]
        others = now[1] - self._jiffies[1] - (_own() - self._used) - running
        steal = (now[2] - self._jiffies[2]) / total
        return Noise(round(steal, 4), round(min(1.0, max(0.0, others / total)), 4), load)
