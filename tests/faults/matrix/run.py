"""Runs one case of one library as a program of its own, with a hard limit, and tells."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from . import pools, trial

FOLDER = Path(__file__).parent.parent
SHARED = Path("/dev/shm")


@dataclass
class Verdict:
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    hung_in: str | None = None
    offered: bool = True
    seconds: float = 0.0
    output: str = ""

    @property
    def passed(self) -> bool:
        return self.offered and self.hung_in is None and all(ok for ok, _ in self.checks.values())

    def failures(self) -> dict[str, str]:
        found = {name: detail for name, (ok, detail) in self.checks.items() if not ok}
        if self.hung_in is not None:
            found["hangs"] = self.hung_in
        return found


def environment(mark: str, temporary: str, slack: float = pools.slack) -> dict[str, str]:
    return {
        **os.environ,
        pools.SLACK: str(slack),
        trial.MARK: mark,
        "TMPDIR": temporary,
        "PYTHONPATH": str(FOLDER),
        "PYTHONUNBUFFERED": "1",
    }


def run(library: str, name: str, slack: float = 1.0) -> Verdict:
    """`slack`: by how much to multiply all limits."""
    case = trial.CASES[name]
    mark = uuid.uuid4().hex
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as temporary:
        shared = set(os.listdir(SHARED))
        out_path, err_path = Path(temporary) / "out", Path(temporary) / "err"
        (work := Path(temporary) / "tmp").mkdir()
        # To files: a process that is left would keep a pipe open.
        with out_path.open("w") as out, err_path.open("w") as err:
            program = subprocess.Popen(
                [sys.executable, "-m", "matrix", library, name],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(mark, str(work), slack),
                cwd=FOLDER,
                start_new_session=True,
            )
            try:
                program.wait(case.seconds * slack)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        verdict = read(out_path.read_text(errors="replace"), program.returncode)
        verdict.output = (
            out_path.read_text(errors="replace") + err_path.read_text(errors="replace")[-6000:]
        )
        if verdict.offered and verdict.hung_in is None:
            left = left_behind(mark, work, shared, trial.GRACE * slack)
            if left:
                verdict.checks["left"] = (False, left)
        end_all(mark, trial.GRACE * slack)
    verdict.seconds = time.monotonic() - began
    return verdict


def read(output: str, code: int) -> Verdict:
    verdict, step, done = Verdict(), "start", False
    for line in output.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "step":
            step = rest
        elif kind == "check":
            name, word, detail = [*rest.split(" ", 2), ""][:3]
            if name == "offered":
                verdict.offered = False
            # Of several checks of one name, the one that fails counts.
            elif verdict.checks.get(name, (True, ""))[0]:
                verdict.checks[name] = (word == "ok", detail)
        elif kind == "done":
            done = True
    if code in (1, -signal.SIGKILL):
        verdict.hung_in = step  # ended by faulthandler's watchdog or by us
    elif not done or code != 0:
        verdict.checks["program"] = (False, f"ended with {code} in step {step}")
    elif any("no result" in detail for ok, detail in verdict.checks.values() if not ok):
        verdict.hung_in = "results"
    return verdict


def left_behind(mark: str, temporary: Path, shared: set[str], grace: float) -> str:
    """What outlives the program, after some time of grace, as text."""

    def look() -> str:
        found = []
        if processes := trial.marked(mark):
            found.append(f"{len(processes)} processes")
        if files := [p.name for p in temporary.iterdir() if not p.name.startswith("case-")]:
            found.append(f"temporary files: {', '.join(sorted(files)[:3])}")
        new = [name for name in set(os.listdir(SHARED)) - shared if is_orphan(SHARED / name, mark)]
        if new:
            found.append(f"shared memory: {', '.join(sorted(new)[:3])}")
        return "; ".join(found)

    deadline = time.monotonic() + grace
    while (text := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return text


def is_orphan(path: Path, mark: str) -> bool:
    """Whether no other program's process has that file mapped, or its pid in the name: they use
    /dev/shm too. By the file's number, as a semaphore's file was mapped under another name.
    """
    ours = trial.marked(mark)
    owners = {int(pid) for pid in re.findall(r"\d+", path.name) if len(pid) < 10} - ours
    if any(Path(f"/proc/{pid}").exists() for pid in owners):
        return False
    try:
        number = f" {path.stat().st_ino} "
    except FileNotFoundError:
        return False
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                if number in (process / "maps").read_text():
                    return False
    return True


def end_all(mark: str, grace: float = trial.GRACE) -> None:
    """Ends what is left of a case, whatever its library left."""
    deadline = time.monotonic() + grace
    while (pids := trial.marked(mark)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
