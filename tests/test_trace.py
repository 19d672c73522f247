"""`plait.lab.trace`: lanes, states, names, arrows, files; bad input."""

from __future__ import annotations

import concurrent.futures
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import plait
import pytest
from conftest import PATIENCE, until
from plait import _core, _hooks, _tracing
from plait.lab.timeline import STATES, Arrow, Lane, Span, Timeline
from plait.lab.trace import Trace, trace
from plait.lab.trace_files import events, thinned

pytestmark = pytest.mark.skipif(not hasattr(_core, "Sampler"), reason="Linux's clocks are read")

HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
RUNS = "gil" if HAS_GIL else "nogil"


def compute(seconds: float = 0.03) -> float:
    """Uses so much CPU time, however long that takes."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return end


def lane_of(t: Trace, name: str) -> Lane:
    [lane] = [lane for lane in t.lanes if lane.name == name]
    return lane


def seconds_in(t: Trace, lane: Lane) -> dict[str, float]:
    found: dict[str, float] = t.summary()["lanes"][lane.id]
    return found


def until_seen(t: trace, thread: threading.Thread, state: str, seconds: float = 0.02) -> None:
    """Waits until the sampler has seen a thread so long in a state."""
    assert t.tracing is not None
    sampler, number = t.tracing.sampler, list(STATES).index(state)

    def is_seen() -> bool:
        totals = sampler.totals().get(thread.native_id or 0)
        return totals is not None and totals[number] > seconds * 1e9

    until(is_seen)


def spans_of(t: Trace, name: str) -> list[Span]:
    timeline = t.timeline
    return [s for lane in timeline.lanes if lane.name == name for s in timeline.of(lane)]


def test_threads_and_what_they_do() -> None:
    reader, writer = os.pipe()
    lock, end = threading.Lock(), threading.Event()
    lock.acquire()

    def computes() -> None:
        while not end.is_set():
            pass

    def sleeps() -> None:
        while not end.is_set():
            time.sleep(0.05)

    def reads() -> None:
        os.read(reader, 1)

    def locked() -> None:
        with lock:
            pass

    def joins() -> None:
        threads[0].join()

    states = {computes: RUNS, sleeps: "sleep", reads: "wait_io", locked: "wait_lock"}
    with trace() as t:
        threads = [threading.Thread(target=work, name=work.__name__) for work in (*states, joins)]
        for thread in threads:
            thread.start()
        for thread, state in zip(threads, states.values(), strict=False):
            until_seen(t, thread, state)
        until(lambda: any(span.name == "join" for span in spans_of(t, "joins")))
        end.set()
        os.write(writer, b"x")
        lock.release()
        for thread in threads:
            thread.join()
    os.close(reader)
    os.close(writer)
    for work, state in states.items():
        lane = lane_of(t, work.__name__)
        assert (lane.kind, lane.pid) == ("thread", os.getpid())
        assert seconds_in(t, lane).get(state, 0) > 0.01
        assert (lane.name, lane.id) in {(arrow.name, arrow.to_lane) for arrow in t.arrows}
    assert lane_of(t, "MainProcess").kind == "process"
    assert set(t.summary()["states"]) <= set(STATES)
    joined = [span for span in spans_of(t, "joins") if span.name == "join"]
    assert {(span.state, span.holder) for span in joined} == {("idle", "computes")}
    # Spans of a thread follow each other, in order, without overlap.
    for lane in t.lanes:
        for before, after in itertools.pairwise(t.timeline.of(lane)):
            assert before.end_s <= after.start_s + 1e-9


def test_plaits_lock_names_its_holder() -> None:
    lock = plait.Lock()
    release, held = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait()

    with trace() as t:
        holder = threading.Thread(target=hold, name="holder")
        holder.start()
        held.wait()
        waiter = threading.Thread(target=lambda: lock.acquire(), name="waiter")
        waiter.start()
        until_seen(t, waiter, "wait_lock")
        release.set()
        waiter.join()
        holder.join()
    waits = [span for span in spans_of(t, "waiter") if span.state == "wait_lock"]
    longest = max(waits, key=lambda span: span.end_s - span.start_s)
    assert longest.name.startswith("Lock at 0x")
    assert longest.holder == "holder"


def double(x: int) -> int:
    compute(0.005)
    return 2 * x


def test_executors_tell_where_their_tasks_ran() -> None:
    with trace() as t:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            assert list(pool.map(double, range(4))) == [0, 2, 4, 6]
        with plait.ThreadPoolExecutor(1) as own:
            assert own.submit(double, 3).result() == 6
    arrows = [arrow for arrow in t.arrows if arrow.name == "double"]
    assert len(arrows) == 5
    kinds = {lane.id: lane.kind for lane in t.lanes}
    assert {kinds[arrow.to_lane] for arrow in arrows} == {"thread"}
    assert all(arrow.at_s <= arrow.to_s < (arrow.end_s or 0) for arrow in arrows)


def test_a_process_pool_tells_where_its_tasks_ran() -> None:
    with trace() as t, plait.ProcessPoolExecutor(2) as pool:
        assert list(pool.map(double, range(6), chunksize=2)) == [0, 2, 4, 6, 8, 10]
        assert pool.submit(double, 3).result(PATIENCE) == 6
    arrows = [arrow for arrow in t.arrows if arrow.name == "double"]
    assert len(arrows) == 4  # three chunks, one task
    lanes = {lane.id: lane for lane in t.lanes}
    assert {lanes[arrow.lane].pid for arrow in arrows} == {os.getpid()}
    assert os.getpid() not in {lanes[arrow.to_lane].pid for arrow in arrows}
    assert {lanes[arrow.to_lane].kind for arrow in arrows} == {"process"}
    waits = [s for s in spans_of(t, "MainProcess") if s.name == "waits for a result"]
    assert sum(s.end_s - s.start_s for s in waits) > 0.02
    assert {s.state for s in waits} == {"idle"}
    for arrow in arrows:
        assert arrow.end_s is not None
        assert arrow.at_s <= arrow.to_s < arrow.end_s


@pytest.mark.parametrize("method", ["fork", "spawn", "plait"])
def test_children_are_traced(method: str, run_script: Any) -> None:
    done = run_script(f"""
        import multiprocessing, time
        import plait
        from plait.lab import trace

        def compute():
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass

        if __name__ == "__main__":
            method = {method!r}
            if method == "plait":
                context = plait.get_context()
            else:
                context = multiprocessing.get_context(method)
            with trace() as t:
                child = context.Process(target=compute, name="child")
                child.start()
                child.join()
            [lane] = [lane for lane in t.lanes if lane.name == "child"]
            states = t.summary()["lanes"][lane.id]
            computed = states.get("gil", 0) + states.get("nogil", 0)
            print(lane.kind, lane.pid == child.pid, child.exitcode, computed > 0.03)
            print([arrow.name for arrow in t.arrows if arrow.to_lane == lane.id])
    """)
    assert done.stdout.splitlines() == ["process True 0 True", "['child']"], done.stderr


def test_a_killed_child_has_noted_what_it_did() -> None:
    context = multiprocessing.get_context("spawn")
    with trace() as t:
        child = context.Process(target=time.sleep, args=(PATIENCE,), name="killed")
        child.start()
        until(lambda: any(s.state == "sleep" for s in spans_of(t, "killed")))
        child.kill()
        child.join()
    assert any(span.state == "sleep" for span in spans_of(t, "killed"))


def test_everything_is_taken_out_again() -> None:
    before = threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit, os.fork
    threads = set(os.listdir("/proc/self/task"))
    with trace():
        assert _tracing.FOLDER in os.environ
        assert threading.Thread.start is not before[0]
    assert (threading.Thread.start, concurrent.futures.ThreadPoolExecutor.submit, os.fork) == before
    assert not _hooks._installed
    assert _tracing.FOLDER not in os.environ
    assert "submit" not in vars(plait.ThreadPoolExecutor)
    until(lambda: set(os.listdir("/proc/self/task")) <= threads)


def test_one_at_a_time_and_once() -> None:
    with trace() as t:
        with pytest.raises(RuntimeError, match="under way"):
            trace().start()
    t.stop()
    with pytest.raises(RuntimeError, match="before"):
        t.start()
    with trace() as t:
        pass
    assert [lane.name for lane in t.lanes][:1] == ["MainProcess"]


@pytest.mark.parametrize("hz", [0, -1, float("nan"), 1e9])
def test_a_wrong_rate_is_refused(hz: float) -> None:
    with pytest.raises(ValueError, match="hz must be"):
        trace(hz)


def test_the_oldest_are_dropped_and_that_is_said() -> None:
    with trace(records=64) as t:
        for _ in range(200):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
    assert t.dropped > 0
    assert "dropped" in str(t)
    with pytest.raises(ValueError, match="records"):
        trace(records=1)


def test_a_block_that_raises_is_traced_to_there() -> None:
    t = trace()

    def block() -> None:
        with t:
            compute()
            raise KeyError

    with pytest.raises(KeyError):
        block()
    assert sum(seconds_in(t, lane_of(t, "MainProcess")).values()) > 0.02


def test_never_stopped_ends_with_the_process(run_script: Any) -> None:
    done = run_script("""
        from plait.lab import trace
        trace().start()
        print("end")
    """)
    assert (done.stdout, done.stderr) == ("end\n", "")


def test_a_child_that_leaves_the_block(run_script: Any) -> None:
    done = run_script("""
        import os, sys, warnings
        warnings.simplefilter("error")  # as of a fork with threads, of which there are none
        from plait.lab import trace
        with trace() as t:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
        if pid:
            pids = {lane.pid for lane in t.lanes}
            print(sorted(lane.kind for lane in t.lanes), pids == {os.getpid(), pid})
    """)
    assert done.stdout == "['process', 'process'] True\n", done.stderr


# Files and pictures, of a timeline that is known.


@pytest.fixture
def known() -> Trace:
    one = Lane("1.1", "process", "MainProcess", 1, 1)
    two = Lane("1.2", "thread", "<b> & co", 1, 2)
    task = Lane("1.task3", "coroutine", "fetch </script>", 1, 1)
    spans = (
        Span("join", one.id, 0.0, 1.0, "idle", "<b> & co"),
        Span("work", two.id, 0.0, 0.25, "gil"),
        Span("lock", two.id, 0.25, 1.0, "wait_lock", "MainProcess"),
        Span("asyncio.sleep", task.id, 0.5, 1.0, "sleep"),
    )
    return Trace(Timeline((one, two, task), spans, (Arrow("work", one.id, 0.0, two.id, 0.1, 0.2),)))


def test_perfetto(known: Trace, tmp_path: Path) -> None:
    known.save(tmp_path / "t.json")
    data = json.loads((tmp_path / "t.json").read_text())
    check_chrome(data)
    found = [
        (e["name"], e["ts"], e["dur"], e["tid"]) for e in data["traceEvents"] if e["ph"] == "X"
    ]
    assert ("work", 0, 250_000, 2) in found
    assert data["traceEvents"] == events(known)["traceEvents"]


def check_chrome(data: dict[str, Any]) -> None:
    """What the format demands: the viewers drop what is wrong without a word."""
    assert set(data) <= {"traceEvents", "displayTimeUnit", "otherData"}
    assert data["displayTimeUnit"] in ("ms", "ns")
    flows: dict[int, list[tuple[str, float]]] = {}
    work: dict[int, list[tuple[str, float]]] = {}
    named = set()
    for event in data["traceEvents"]:
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert isinstance(event["name"], str)
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
            assert (event["pid"], event["tid"]) in named
        elif event["ph"] == "M":
            assert event["name"] in (
                *("process_name", "process_sort_index", "thread_name", "thread_sort_index"),
            )
            if event["name"] == "thread_name":
                named.add((event["pid"], event["tid"]))
        else:
            assert event["ph"] in ("s", "f", "b", "e")
            assert event["ph"] != "f" or event["bp"] == "e"
            assert event["cat"] == ("start" if event["ph"] in "sf" else "work")
            of = flows if event["ph"] in "sf" else work
            of.setdefault(event["id"], []).append((event["ph"], event["ts"]))
    for flow in (*flows.values(), *work.values()):
        (first, at), (second, then) = flow
        assert (first, second) in (("s", "f"), ("b", "e"))
        assert at <= then


def test_a_real_trace_is_valid_for_perfetto() -> None:
    with trace() as t:
        thread = threading.Thread(target=compute, args=(0.01,))
        thread.start()
        thread.join()
    check_chrome(json.loads(json.dumps(events(t))))


def test_page(known: Trace, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    known.save(tmp_path / "t.html")
    page = (tmp_path / "t.html").read_text()
    assert page.count("</script>") == 1  # none of a name's
    assert "http" not in page.replace("http://www.w3.org", "")
    fragment = known._repr_html_()
    assert "<svg" in fragment  # where no script runs
    assert "&lt;b&gt; &amp; co" in fragment


def test_svg_and_png(known: Trace, tmp_path: Path) -> None:
    known.save(tmp_path / "t.svg")
    root = ET.parse(tmp_path / "t.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme" in (tmp_path / "t.svg").read_text()
    pytest.importorskip("matplotlib")
    known.save(tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_trace_can_be_shown(tmp_path: Path) -> None:
    empty = Trace()
    empty.save(tmp_path / "t.html")
    empty.save(tmp_path / "t.svg")
    empty.save(tmp_path / "t.json")
    assert "nothing was recorded" in str(empty)
    assert empty._repr_html_()


def test_text(known: Trace) -> None:
    text = str(known)
    assert "thread <b> & co" in text
    assert "100.0% decided" in text


def test_rich(known: Trace) -> None:
    console = pytest.importorskip("rich.console").Console(width=70, file=io.StringIO())
    console.print(known)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 70
    assert lines[0].startswith("process MainProcess")


def test_another_ending_is_refused(known: Trace, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.html"):
        known.save(tmp_path / "t.pdf")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_a_full_disk_leaves_what_was_there(
    known: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "t.json"
    target.write_text("before")
    real = open

    def full(file: Any, *args: Any, **kwargs: Any) -> Any:
        return real("/dev/full", "wb") if isinstance(file, int) else real(file, *args, **kwargs)

    import plait.lab.trace_files as files

    monkeypatch.setattr(files, "open", full, raising=False)
    with pytest.raises(OSError, match="No space"):
        known.save(target)
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["t.json"]


def test_pictures_of_many_spans_are_thinned() -> None:
    lane = Lane("1.1", "process", "MainProcess", 1, 1)
    spans = tuple(
        Span("s", lane.id, i * 1e-5, (i + 0.6) * 1e-5, "gil" if i % 3 else "wait_gil")
        for i in range(100_000)
    )
    many = Timeline((lane,), spans)
    few = thinned(many)
    assert 0 < len(few.spans) <= 1201
    assert {span.state for span in few.spans} == {"gil"}
    assert few.seconds == pytest.approx(many.seconds, abs=1e-3)


def test_live_view() -> None:
    pytest.importorskip("anywidget")
    with trace() as t:
        view = t.live(0.05)
        until(lambda: any(name == "worker" for _, name, *_ in view.data["lanes"]) or start_worker())
        with pytest.raises(ValueError, match="every"):
            t.live(0)
    until(lambda: not any("trace-live" in thread.name for thread in threading.enumerate()))
    assert view.data["seconds"] == t.timeline.seconds
    assert not any("trace-live" in lane.name for lane in t.lanes)


def start_worker() -> None:
    thread = threading.Thread(target=compute, name="worker")
    thread.start()
    thread.join()


def test_live_view_without_anywidget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anywidget", None)
    with trace() as t:
        still = t.live()
        until(lambda: t.lanes)
        assert "anywidget is missing" in still._repr_html_()
        assert "MainProcess" in str(still)


# The command.


def trace_command(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "plait.cli", "trace", *args],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "script.py"
    path.write_text(
        "import sys, threading, time\n"
        "print(__name__, sys.argv[1:])\n"
        "def work(): time.sleep(0.05)\n"
        "threading.Thread(target=work, name='left').start()\n"
        "sys.exit(3 if '--three' in sys.argv else 0)\n"
    )
    return str(path)


@pytest.fixture
def _command() -> None:
    pytest.importorskip("typer")


@pytest.mark.usefixtures("_command")
def test_command(script: str, tmp_path: Path) -> None:
    out = tmp_path / "t.json"
    done = trace_command("-o", str(out), script, "--three", "-o", "x", code=3)
    assert done.stdout == "__main__ ['--three', '-o', 'x']\n"
    assert "thread left" in done.stderr
    check_chrome(json.loads(out.read_text()))
    done = trace_command("--json", script)
    data = json.loads(done.stdout)
    assert "left" in [lane["name"] for lane in data["lanes"]]
    assert "__main__ []" in done.stderr


@pytest.mark.once
@pytest.mark.usefixtures("_command")
def test_command_that_cannot(script: str, tmp_path: Path) -> None:
    assert "No such file" in trace_command(str(tmp_path / "none.py"), code=2).stderr
    assert ".html" in trace_command("-o", "t.pdf", script, code=2).stderr


@pytest.mark.once
@pytest.mark.usefixtures("_command")
def test_command_with_scripts_that_fail(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0\n")
    done = trace_command(str(bad), code=1)
    assert "ZeroDivisionError" in done.stderr
    assert "trace_script" not in done.stderr
    bad.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    assert "interrupted" in trace_command(str(bad), code=130).stderr


# The truth: against the kernel's own account of each thread.


def kernels_word(tid: int) -> tuple[float, float]:
    """Seconds that a thread has run, and has waited for a processor, as the scheduler counts."""
    ran, waited, _ = Path(f"/proc/self/task/{tid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="no schedstat")
def test_states_agree_with_the_scheduler() -> None:
    end = threading.Event()

    def spins() -> None:
        while not end.is_set():
            pass

    def sleeps() -> None:
        while not end.is_set():
            time.sleep(0.004)

    def mixed() -> None:
        while not end.is_set():
            compute(0.003)
            time.sleep(0.003)

    def hashes() -> None:
        block = b"x" * 4_000_000
        while not end.is_set():
            hashlib.sha256(block).digest()

    programs = {"spins": spins, "rivals": spins, "sleeps": sleeps, "mixed": mixed, "hashes": hashes}
    threads = {
        name: threading.Thread(target=work, name=name, daemon=True)
        for name, work in programs.items()
    }
    for thread in threads.values():
        thread.start()
    tids = {name: thread.native_id or 0 for name, thread in threads.items()}
    before = {name: kernels_word(tid) for name, tid in tids.items()}
    with trace() as t:
        time.sleep(4)
        after = {name: kernels_word(tid) for name, tid in tids.items()}
    end.set()
    for thread in threads.values():
        thread.join()
    summary = t.summary()
    assert summary["decided"] > 0.9
    whole = summary["seconds"]
    for name in programs:
        states = seconds_in(t, lane_of(t, name))
        ran = after[name][0] - before[name][0]
        running = states.get("gil", 0) + states.get("nogil", 0)
        assert running == pytest.approx(ran, abs=0.05 * whole), (name, states)
        assert sum(states.values()) == pytest.approx(whole, abs=0.05 * whole), (name, states)
    if HAS_GIL:
        # One at a time has it.
        assert summary["states"]["gil"] < 1.05 * whole
        hashing = seconds_in(t, lane_of(t, "hashes"))
        assert hashing.get("nogil", 0) > hashing.get("gil", 0)
    sleeping = seconds_in(t, lane_of(t, "sleeps"))
    computing = sleeping.get("gil", 0) + sleeping.get("nogil", 0)
    assert sleeping["sleep"] > computing
