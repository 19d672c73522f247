"""%plait and %%plait in a real kernel: output in the right cell, ^C, and nothing left."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from conftest import PATIENCE, until, wait_until_gone

nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install 'plait[notebook]'")
nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install 'plait[notebook]'")
pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'plait[notebook]'")
jupyter_client = pytest.importorskip("jupyter_client")

pytestmark = [pytest.mark.timeout(PATIENCE * 3), pytest.mark.once]


def run(folder, *cells, **options):
    """Run cells in a kernel of their own; gives each one's output as text."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    client = nbclient.NotebookClient(
        notebook, timeout=PATIENCE, resources={"metadata": {"path": str(folder)}}, **options
    )
    client.execute()
    return [
        "".join(
            output.get("text", "")
            or "".join(output.get("data", {}).values())
            or output.get("evalue", "")
            for output in cell.get("outputs", [])
        )
        for cell in notebook.cells
    ]


def test_magics(tmp_path):
    outputs = run(
        tmp_path,
        "%load_ext plait",
        "items = range(4)\ndef treble(n):\n    return 3 * n",
        "%plait compare treble --models threading,plait.process --repeats 1 -o found",
        "print(sorted(row.model for row in found.rows if row.ok))",
        "%%plait compare --models threading --repeats 1 --items [1,2] -o cell.json\n"
        "def helper(n):\n    return n\ndef work(n):\n    return helper(n)",
        "%plait compare work --models threading --repeats 1 --items [1,2] --against cell.json",
        "%plait doctor",
        "%plait compare nope",
        allow_errors=True,
    )
    assert "treble" in outputs[2]
    assert "<table" in outputs[2]
    assert outputs[3] == "['plait.process', 'serial', 'threading']\n"
    assert "work over 2 items" in outputs[4]
    assert (tmp_path / "cell.json").is_file()
    assert "ratio" in outputs[5]
    assert "start methods" in outputs[6]
    assert "<td" in outputs[6]
    assert "no workload is called 'nope'" in outputs[7]


def test_output_of_threads_and_processes_is_in_the_cell_that_started_them(tmp_path):
    outputs = run(
        tmp_path,
        "import plait\ndef say(text):\n    print(text, flush=True)",
        "t = plait.Thread(target=say, args=('from a thread',)); t.start(); t.join()",
        "p = plait.Process(target=say, args=('from a process',)); p.start(); p.join()",
        "with plait.ThreadPoolExecutor(2) as pool: list(pool.map(say, ['pool thread']))",
        "with plait.ProcessPoolExecutor(2) as pool: list(pool.map(say, ['pool process']))",
        "pass",
    )
    assert "from a thread" in outputs[1]
    assert "from a process" in outputs[2]
    assert "pool thread" in outputs[3]
    assert "pool process" in outputs[4]
    assert outputs[5] == ""


def test_output_that_comes_late_is_in_the_cell_that_started_it(kernel):
    """Also where another cell waits for it, which then hands on what the child has printed."""
    kernel.begin(
        "import plait, time\ndef late():\n    time.sleep(1)\n    print('from a child', flush=True)"
    )
    started = kernel.begin("process = plait.Process(target=late)\nprocess.start()")
    kernel.begin("process.join(); print('jo' + 'ined')")
    parents = {}
    while "joined" not in parents:
        message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        if message["msg_type"] == "stream":
            for text in message["content"]["text"].split("\n"):
                parents[text] = message["parent_header"]["msg_id"]
    assert parents["from a child"] == started


def _descendants(pid: int) -> set[int]:
    """A process's children and theirs, as far as they run."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


class Kernel:
    def __init__(self, folder):
        self.manager, self.client = jupyter_client.manager.start_new_kernel(cwd=str(folder))

    def begin(self, code):
        # Else what is asked for right after an error is answered with "aborted".
        return self.client.execute(code, stop_on_error=False)

    def until_said(self, pattern):
        """Read what the kernel says until it says this."""
        said = ""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            content = message["content"]
            said += content.get("text", "") + content.get("ename", "")
            if found := re.search(pattern, said):
                return found
        raise AssertionError(said)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(tmp_path):
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


_LONG = (
    "import os, time, threading\n"
    "from plait.lab import compare\n"
    "def nap(seconds):\n"
    "    import time\n"
    "    time.sleep(seconds)\n"
    "print('pid', os.getpid(), flush=True)\n"
    "compare(nap, [0.01] * 4 + [0.5] * 200, models=['futures.process'], workers=2)\n"
)


def test_an_interrupt_ends_the_cell_and_the_kernel_goes_on(kernel):
    kernel.begin(_LONG)
    pid = int(kernel.until_said(r"pid (\d+)\n")[1])
    until(lambda: _descendants(pid))
    kernel.manager.interrupt_kernel()
    kernel.until_said("KeyboardInterrupt")
    kernel.begin("print('goes', 'on')")
    kernel.until_said("goes on")


def test_a_restart_leaves_no_orphan(kernel):
    kernel.begin(_LONG)
    pid = int(kernel.until_said(r"pid (\d+)\n")[1])
    until(lambda: len(_descendants(pid)) >= 2)
    left = _descendants(pid)
    kernel.manager.restart_kernel(now=True)
    wait_until_gone(left)


def test_nothing_listens(kernel):
    """No port but the kernel's own."""
    kernel.begin("import os; print('pid', os.getpid(), flush=True)")
    pid = int(kernel.until_said(r"pid (\d+)\n")[1])

    def sockets():
        found = set()
        for table in ("tcp", "tcp6"):
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
            found |= {row.split()[9] for row in rows if row.split()[3] == "0A"}
        mine = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            if target.startswith("socket:["):
                mine.add(target[8:-1])
        return found & mine

    before = sockets()
    kernel.begin(
        "from plait.lab import compare\n"
        "compare(abs, [1], repeats=1, models=['threading', 'plait.process', 'multiprocessing'])\n"
        "print('com' + 'pared')"
    )
    kernel.until_said("compared")
    assert sockets() == before
