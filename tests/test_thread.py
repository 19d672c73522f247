"""plait.Thread: a threading.Thread that hands back its target's value."""

from __future__ import annotations

import contextvars
import os
import pathlib
import sys
import threading
import traceback

import plait
import pytest
from plait import _core


@pytest.fixture
def hooked(monkeypatch):
    """What threading.excepthook was given."""
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_value))
    return seen


def test_is_a_threading_thread():
    inside = []
    gate = threading.Event()

    def target():
        inside.append(plait.current_thread())
        gate.wait()

    thread = plait.Thread(target=target, name="weft", daemon=True)
    assert isinstance(thread, threading.Thread)
    assert thread.daemon
    thread.start()
    try:
        assert thread in threading.enumerate()
    finally:
        gate.set()
    assert thread.result() is None
    assert inside == [thread]
    assert thread.name == "weft"


def test_result_is_the_targets_value_each_time():
    thread = plait.Thread(target=divmod, args=(7, 2))
    thread.start()
    assert thread.result() == (3, 1)
    thread.join()
    assert thread.result(0) == (3, 1)


def test_result_raises_the_targets_exception_with_its_traceback(hooked):
    def fails():
        raise KeyError("deep")

    thread = plait.Thread(target=fails)
    thread.start()
    for _ in range(2):
        with pytest.raises(KeyError, match="deep") as caught:
            thread.result()
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[-1] == "fails"
        assert names.count("fails") == 1
    assert hooked == [caught.value]


def test_result_waits_no_longer_than_its_timeout():
    gate = threading.Event()
    thread = plait.Thread(target=gate.wait, name="slow")
    thread.start()
    try:
        with pytest.raises(plait.errors.TaskTimeout, match="slow"):
            thread.result(0.01)
        with pytest.raises(TimeoutError):
            thread.result(-1)
    finally:
        gate.set()
    assert thread.result() is True


def test_result_before_start_is_an_error():
    with pytest.raises(RuntimeError, match="before it is started"):
        plait.Thread(target=int).result()


def test_a_second_start_is_an_error_and_changes_nothing():
    thread = plait.Thread(target=int)
    thread.start()
    with pytest.raises(RuntimeError, match="once"):
        thread.start()
    assert thread.result() == 0


def test_result_of_an_overridden_run(hooked):
    class Returns(plait.Thread):
        def run(self):
            return "own"

    class Delegates(plait.Thread):
        def run(self):
            super().run()

    class Raises(plait.Thread):
        def run(self):
            raise OSError("run")

    threads = [Returns(), Delegates(target=lambda: "target's"), Raises()]
    for thread in threads:
        thread.start()
    assert threads[0].result() == "own"
    assert threads[1].result() == "target's"
    with pytest.raises(OSError, match="run"):
        threads[2].result()
    assert len(hooked) == 1


@pytest.mark.parametrize("target", [3, "print", sum([1])])
def test_a_target_that_is_not_callable_is_refused_with_a_hint(target):
    with pytest.raises(TypeError, match="without parentheses") as caught:
        plait.Thread(target=target)
    assert repr(target) in str(caught.value)


def test_no_target_at_all_is_fine():
    thread = plait.Thread()
    thread.start()
    assert thread.result() is None


def test_a_start_that_failed_may_be_repeated(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    thread = plait.Thread(target=abs, args=(-3,))
    for name in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, name, fail, raising=False)
    with pytest.raises(RuntimeError, match="new thread"):
        thread.start()
    monkeypatch.undo()
    thread.start()
    assert thread.result(30) == 3


def test_a_subclass_that_forgets_to_initialize_is_told():
    class Forgetful(plait.Thread):
        def __init__(self):
            pass

    thread = Forgetful()
    with pytest.raises(RuntimeError, match="not called"):
        thread.start()
    with pytest.raises(RuntimeError, match="before it is started"):
        thread.result()


# ---- on cached OS threads ------------------------------------------------------------------------

cached = pytest.mark.skipif(not hasattr(_core, "CachedThread"), reason="needs Linux")


def run(target, *args, **options):
    thread = plait.Thread(target=target, args=args, **options)
    thread.start()
    return thread.result(60)


@cached
def test_an_os_thread_is_used_again_and_a_thread_state_is_not():
    local, variable = threading.local(), contextvars.ContextVar("variable", default="none")

    def look():
        seen = getattr(local, "value", "none"), variable.get(), sys.gettrace()
        local.value = "leaked"
        variable.set("leaked")
        sys.settrace(lambda *args: None)
        return threading.get_native_id(), seen

    found = [run(look) for _ in range(20)]
    assert {seen for _, seen in found} == {("none", "none", None)}
    assert len({native_id for native_id, _ in found}) < 20


@cached
def test_a_thread_that_must_not_be_reused_is_new():
    class New(plait.Thread):
        reuse = False

    thread = New(target=threading.get_native_id)
    thread.start()
    assert thread.result(60) == thread.native_id
    assert thread._end is None


def test_ids_are_known_when_start_returns():
    gate = threading.Event()
    thread = plait.Thread(target=lambda: (gate.wait(), threading.get_ident()), daemon=True)
    thread.start()
    try:
        assert threading._active[thread.ident] is thread
        assert thread.native_id is not None
    finally:
        gate.set()
    assert thread.result(60) == (True, thread.ident)
    assert thread not in threading.enumerate()
    assert not thread.is_alive()
    assert "stopped" in repr(thread)


def test_a_thread_runs_in_a_copy_of_its_starters_context():
    variable = contextvars.ContextVar("variable", default=0)

    def change():
        before = variable.get()
        variable.set(before + 1)
        return before

    def start():
        variable.set(7)
        return [run(change), run(change), variable.get()]

    inherits = getattr(sys.flags, "thread_inherit_context", True)
    assert contextvars.Context().run(start) == ([7, 7, 7] if inherits else [0, 0, 7])
    own = contextvars.Context()
    own.run(variable.set, 3)
    assert run(change, context=own) == 3
    assert own[variable] == 4


@cached
def test_the_system_sees_the_name():
    def comm():
        path = f"/proc/self/task/{threading.get_native_id()}/comm"
        return pathlib.Path(path).read_text().strip()

    assert run(comm, name="weft and warp and more") == "weft and warp a"
    assert run(comm, name="other") == "other"


@cached
def test_a_thread_has_the_stack_that_was_asked_for():
    def stack():
        maps = pathlib.Path("/proc/self/maps").read_text()
        here = id_of_stack()
        for line in maps.splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= here < end:
                return end - start
        return 0

    def id_of_stack():
        import ctypes

        libc = ctypes.CDLL(None)
        libc.pthread_self.restype = ctypes.c_size_t
        return int(libc.pthread_self())

    before = threading.stack_size(64 << 20)
    try:
        assert run(stack) >= 63 << 20  # the default is much less
    finally:
        threading.stack_size(before)


def test_a_join_comes_after_the_last_finalizer():
    class Last:
        def __del__(self):
            ended.append("finalizer")

    local, ended = threading.local(), []
    thread = plait.Thread(target=lambda: setattr(local, "value", Last()))
    thread.start()
    thread.join(60)
    assert ended == ["finalizer"]


def test_exit_waits_for_threads_that_are_no_daemons(run_script):
    done = run_script("""
        import threading, time, plait

        def late(main):
            main.join()
            print("late")

        plait.Thread(target=late, args=(threading.current_thread(),)).start()
        plait.Thread(target=time.sleep, args=(600,), daemon=True).start()
        print("main")
    """)
    assert done.stdout.split() == ["main", "late"]
    assert done.stderr == ""


def test_a_child_that_a_thread_forks_ends_with_that_thread(run_script):
    # In a program of its own: other libraries' (uvloop's) exit handlers fail in such a child.
    done = run_script("""
        import os
        import plait

        thread = plait.Thread(target=os.fork)
        thread.start()
        print(os.waitpid(thread.result(), 0)[1])
    """)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_threads_in_a_forked_child():
    if (pid := os.fork()) == 0:
        code = 1
        try:
            code = 0 if run(abs, -3) == 3 else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    gate = threading.Event()
    thread = plait.Thread(target=gate.wait, daemon=True)
    thread.start()
    if (pid := os.fork()) == 0:
        os._exit(thread.is_alive())  # it is not in the child
    gate.set()
    assert os.waitpid(pid, 0)[1] == 0
    assert thread.result(60) is True


def test_many_threads_at_once():
    threads = [plait.Thread(target=abs, args=(-n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    assert [thread.result(60) for thread in threads] == list(range(100))


def test_of_several_starts_at_once_one_wins() -> None:
    for _ in range(20):
        ran: list[int] = []
        refused: list[str] = []
        thread = plait.Thread(target=ran.append, args=(1,))
        line = threading.Barrier(4)

        def start(
            thread: plait.Thread = thread,
            line: threading.Barrier = line,
            refused: list[str] = refused,
        ) -> None:
            line.wait(30)
            try:
                thread.start()
            except RuntimeError as error:
                refused.append(str(error))

        starters = [threading.Thread(target=start) for _ in range(4)]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join(30)
        thread.join(30)
        assert ran == [1]
        assert refused == ["threads can only be started once"] * 3


def test_a_join_while_the_interpreter_ends(run_script):
    done = run_script("""
        import plait

        class Cycle:
            def __init__(self):
                self.me = self
                self.thread = plait.Thread(target=loop, daemon=True)
                self.thread.start()

            def __del__(self):
                try:
                    self.thread.join()
                except RuntimeError as error:
                    print(error)

        def loop():
            while True:
                pass

        Cycle()
    """)
    assert "while the interpreter ends" in done.stdout


def test_a_name_that_the_system_cannot_have():
    thread = plait.Thread(target=int, name="odd \udcff")
    thread.start()
    assert thread.result(60) == 0
    assert thread.name == "odd \udcff"
