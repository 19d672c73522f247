"""What is left when something dies: the parent, the zygote, a child; or a limit is met."""

from __future__ import annotations

import io
import multiprocessing.process
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import plait
import pytest
from conftest import PATIENCE, settle, wait_until_gone
from plait import _zygote
from plait.errors import SerializationError, WorkerDied


def started(target: Any, *args: Any, **options: Any) -> plait.Process:
    process = plait.Process(target=target, args=args, **options)
    process.start()
    return process


def finish(process: plait.Process) -> Any:
    try:
        return process.result(30)
    finally:
        process.join()
        process.close()


@pytest.mark.usefixtures("leaves_nothing")
def test_children_survive_the_zygotes_death_and_a_new_one_takes_over() -> None:
    gate = plait.get_context().Event()
    process = started(gate.wait)
    old = _zygote._zygote
    assert old is not None
    pid = old.pid or 0
    os.kill(pid, signal.SIGKILL)
    wait_until_gone([pid])
    assert finish(started(abs, -4)) == 4
    assert _zygote._zygote is not old
    assert process.is_alive()
    gate.set()
    assert process.result(30) is True
    process.join()
    assert process.exitcode == 0
    process.close()


@pytest.mark.usefixtures("leaves_nothing")
def test_spares_that_are_killed_are_not_used() -> None:
    finish(started(int))
    spares = settle()
    assert spares
    for pid in spares:
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(spares)
    processes = [started(abs, -n) for n in range(6)]
    assert [finish(process) for process in processes] == list(range(6))


@pytest.mark.usefixtures("leaves_nothing")
def test_a_stopped_zygote_is_still_the_zygote_when_it_goes_on() -> None:
    finish(started(int))
    zygote = _zygote._zygote
    assert zygote is not None
    pid = zygote.pid or 0
    os.kill(pid, signal.SIGSTOP)
    subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -CONT {pid}"]).wait()
    assert finish(started(abs, -1)) == 1
    assert zygote.pid == pid


PARENT = """
import os, sys, time, plait

def spin():
    while True:
        pass

def nested():
    p = plait.Process(target=spin, daemon=True)
    p.start()
    print(p.pid, flush=True)
    ready.set()
    spin()

ready = plait.get_context().Event()
a = plait.Process(target=spin, daemon=True)
a.start()
b = plait.Process(target=nested, daemon=True)
b.start()
print(a.pid, b.pid, flush=True)
from plait import _zygote
print(_zygote._zygote.pid, flush=True)
ready.wait()
{then}
"""


def pids_of(script: subprocess.Popen[str], count: int) -> list[int]:
    found: list[int] = []
    assert script.stdout is not None
    while len(found) < count:
        line = script.stdout.readline()
        assert line, "the script ended early"
        found += [int(word) for word in line.split()]
    return found


@pytest.mark.parametrize("kill_zygote_first", [False, True])
def test_busy_daemonic_children_end_with_a_parent_that_is_killed(kill_zygote_first: bool) -> None:
    source = PARENT.format(then="time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as run:
        pids = pids_of(run, 4)
        if kill_zygote_first:
            os.kill(pids[-1], signal.SIGKILL)
        run.kill()
        wait_until_gone(pids)


@pytest.mark.parametrize("then", ["sys.exit(0)", "raise RuntimeError", "os._exit(0)"])
def test_nothing_outlives_the_parents_exit(then: str) -> None:
    source = PARENT.format(then=then)
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        pids = pids_of(run, 4)
        run.wait(PATIENCE)
        wait_until_gone(pids)


def test_a_non_daemonic_child_outlives_a_killed_parent_as_in_the_standard_library() -> None:
    source = """
import plait, sys, time
p = plait.Process(target=time.sleep, args=(60,))
p.start()
print(p.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as run:
        (pid,) = pids_of(run, 1)
        run.kill()
    os.kill(pid, 0)  # still there
    os.kill(pid, signal.SIGKILL)
    wait_until_gone([pid])


def test_interrupt_ends_parent_and_children() -> None:
    # Told when nobody is at the event any more: whoever ended while it had its lock would hold up
    # who waits for that.
    source = PARENT.format(then="print(0, flush=True); a.join()")
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as run:
        *pids, _ = pids_of(run, 5)
        os.killpg(run.pid, signal.SIGINT)  # what a terminal does
        run.wait(PATIENCE)
        wait_until_gone(pids)
        assert run.stderr is not None
        assert "KeyboardInterrupt" in run.stderr.read()


@pytest.mark.usefixtures("leaves_nothing")
def test_a_start_that_fails_leaves_nothing() -> None:
    for _ in range(3):
        with pytest.raises(SerializationError):
            started(print, sys._getframe())


@pytest.mark.usefixtures("leaves_nothing")
def test_a_start_that_fails_leaves_nothing_of_the_output_or_the_child(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(SerializationError):
        started(print, sys._getframe())
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", [sys._getframe()])  # found when the child waits already
    with pytest.raises(SerializationError):
        started(print)


@pytest.mark.parametrize("has_spares", [True, False])
@pytest.mark.usefixtures("leaves_nothing")
def test_interrupted_starts_leave_nothing(
    monkeypatch: pytest.MonkeyPatch, has_spares: bool
) -> None:
    zygote = _zygote._zygote
    assert zygote is not None

    class Interrupted:
        def take(self) -> object:
            if has_spares:
                zygote.take()
                raise KeyboardInterrupt
            return None

        def fork(self, *payload: Any) -> object:
            zygote.fork(*payload)  # with it, as it is sent along
            raise KeyboardInterrupt

        def __getattr__(self, name: str) -> Any:
            return getattr(zygote, name)

    monkeypatch.setattr(_zygote, "_zygote", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        started(int)


@pytest.mark.usefixtures("leaves_nothing")
def test_an_interrupt_at_the_end_of_a_start_loses_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(set[Any]):
        def add(self, process: Any) -> None:
            super().add(process)
            raise KeyboardInterrupt

    process = plait.Process(target=abs, args=(-3,))
    monkeypatch.setattr(multiprocessing.process, "_children", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        process.start()
    assert plait.active_children() == []
    assert process.pid is None
    monkeypatch.undo()
    process.start()  # as if nothing had happened
    assert finish(process) == 3


@pytest.mark.usefixtures("leaves_nothing")
def test_a_signal_handler_may_use_processes_while_one_is_used() -> None:
    process = started(abs, -3)
    with process._popen._lock, _zygote._lock:  # type: ignore[attr-defined]
        assert finish(process) == 3
        assert finish(started(abs, -4)) == 4


@pytest.mark.usefixtures("leaves_nothing")
def test_descriptors_exhausted() -> None:
    finish(started(int))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    held = []
    try:
        while True:
            held.append(os.dup(0))
    except OSError:
        pass
    try:
        with pytest.raises(OSError, match="Too many open files"):
            started(int)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert finish(started(abs, -2)) == 2


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.usefixtures("leaves_nothing")
def test_a_fatal_signal_is_named(number: signal.Signals) -> None:
    def die() -> None:
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)

    with pytest.raises(WorkerDied, match=number.name):
        finish(started(die))


def test_a_forked_copy_of_the_parent_gets_a_zygote_of_its_own(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait
        def start():
            p = plait.Process(target=os.getppid)
            p.start()
            return p.result(30)
        assert start() == os.getpid()
        pid = os.fork()
        assert start() == os.getpid()
        if pid == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert start() == os.getpid()
        print("fine")
        """
    )
    assert done.stdout == "fine\n"


def test_an_interrupt_while_the_zygote_starts_is_for_the_parent_to_decide(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait, signal
        from plait import _zygote
        signal.signal(signal.SIGINT, lambda *_: None)
        start = _zygote._start
        def start_and_interrupt(state):
            _zygote._start = start
            zygote = start(state)
            os.kill(zygote.pid, signal.SIGINT)
            return zygote
        _zygote._start = start_and_interrupt
        p = plait.Process(target=abs, args=(-3,))
        p.start()
        print(p.result(30))
        """
    )
    assert done.stdout == "3\n"


def test_a_fork_while_other_threads_start_processes(run_script: Any) -> None:
    run_script(
        """
        import os, plait, threading
        def loop():
            while not stop.is_set():
                p = plait.Process(target=int)
                p.start()
                p.join()
        stop = threading.Event()
        threads = [threading.Thread(target=loop) for _ in range(2)]
        # What it imports is imported: a fork during an import by a thread is Python's to lose.
        plait.Process(target=int).start()
        for thread in threads:
            thread.start()
        for _ in range(15):
            pid = os.fork()
            if pid == 0:
                p = plait.Process(target=os.getppid)
                p.start()
                fine = p.result(60) == os.getpid()
                p.join()
                os._exit(not fine)
            status = os.waitpid(pid, 0)[1]
            if status != 0:
                break
        stop.set()
        assert status == 0, status
        """
    )


def test_a_forked_copy_does_not_take_the_parents_outcomes(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait, select
        ours = plait.Process(target=abs, args=(-3,))
        ours.start()
        select.select([ours.sentinel], [], [])
        pid = os.fork()
        if pid == 0:
            plait.active_children()
            os._exit(0)
        os.waitpid(pid, 0)
        print(ours.result(60))
        """
    )
    assert done.stdout == "3\n"


def test_join_does_not_wait_for_a_talkative_grandchild(run_script: Any) -> None:
    run_script(
        """
        import contextlib, io, os, plait, signal, subprocess
        def child():
            return subprocess.Popen(["yes"]).pid
        with contextlib.redirect_stdout(io.StringIO()):
            p = plait.Process(target=child)
            p.start()
            pid = p.result(60)
            p.join()
        os.kill(pid, signal.SIGKILL)
        """
    )


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_parent_without_standard_files(closed: str) -> None:
    source = (
        "import plait, sys\np = plait.Process(target=abs, args=(-3,))\np.start()\n"
        "p.join()\nsys.exit(p.result(60))"
    )
    command = f'"$0" -c "$1" {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, source], timeout=PATIENCE)
    assert done.returncode == 3


def test_a_warning_class_of_the_script_in_the_filters(run_script: Any) -> None:
    done = run_script(
        """
        import plait, warnings
        class Mine(Warning): pass
        warnings.simplefilter("error", Mine)
        p = plait.Process(target=lambda: warnings.warn("now", Mine))
        p.start()
        try:
            p.result(30)
        except Mine:
            print("raised")
        """
    )
    assert done.stdout == "raised\n"


def test_a_daemonic_child_that_forks_is_not_warned_of_our_thread(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait, warnings
        def fork():
            warnings.simplefilter("error")
            if os.fork() == 0:
                os._exit(0)
            os.wait()
            return "forked"
        p = plait.Process(target=fork, daemon=True)
        p.start()
        print(p.result(30))
        p.join()
        """
    )
    assert done.stdout == "forked\n"


def test_exit_status_that_someone_else_has_taken(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait
        p = plait.Process(target=abs, args=(-3,))
        p.start()
        os.waitpid(p.pid, 0)
        print(p.result(30))
        p.join()
        print(p.exitcode)
        """
    )
    assert done.stdout == "3\n255\n"


def test_a_zygote_that_cannot_start_says_so(run_script: Any) -> None:
    done = run_script(
        """
        import multiprocessing, plait, sys
        multiprocessing.set_executable("/nonexistent/python")
        try:
            plait.Process(target=int).start()
        except RuntimeError as error:
            print(error)
        """
    )
    assert "/nonexistent/python" in done.stdout
    assert "set_executable" in done.stdout


@pytest.mark.parametrize("way", ["zygote", "spawn"])
@pytest.mark.parametrize("executable", [None, ""])
def test_an_interpreter_that_is_not_known(
    way: str, executable: str | None, run_script: Callable[..., Any]
) -> None:
    code = f"""
        import os, sys
        os.environ["PLAIT_START"] = {way!r}
        sys.executable = {executable!r}
        import plait
        try:
            plait.Process(target=int).start()
        except RuntimeError as error:
            print(error)
    """
    assert run_script(code).stdout.startswith("cannot start")
