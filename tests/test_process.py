"""plait.Process: what it adds to multiprocessing, and what a child gets at start()."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import threading
import time
import warnings
from typing import Any

import plait
import pytest
from conftest import PATIENCE, settle
from plait import _state, _zygote
from plait.errors import SerializationError, TaskTimeout, WorkerDied

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def result_of(target: Any, *args: Any, **kwargs: Any) -> Any:
    process = plait.Process(target=target, args=args, kwargs=kwargs)
    process.start()
    try:
        return process.result(PATIENCE)
    finally:
        process.join()
        process.close()


# ---- result() ------------------------------------------------------------------------------


def test_result_before_and_after_join() -> None:
    process = plait.Process(target=divmod, args=(17, 5))
    process.start()
    assert process.result(PATIENCE) == (3, 2)
    process.join()
    assert process.result() == (3, 2)
    assert process.exitcode == 0
    process.close()
    with pytest.raises(ValueError, match="closed"):
        process.result()


def test_an_exception_arrives_with_the_childs_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise KeyError("nope")

    with pytest.raises(KeyError, match="nope") as caught:
        result_of(fail)
    assert "in fail" in str(caught.value.__cause__)
    assert "in fail" in capfd.readouterr().err  # as multiprocessing does


def test_a_result_larger_than_a_socket_buffer() -> None:
    assert len(result_of(bytes, 20_000_000)) == 20_000_000


def test_a_killed_process_names_its_signal() -> None:
    process = plait.Process(target=time.sleep, args=(60,), name="sleeper")
    process.start()
    process.kill()
    with pytest.raises(WorkerDied, match=r"sleeper.*SIGKILL") as caught:
        process.result(PATIENCE)
    assert caught.value.signal == signal.SIGKILL
    assert caught.value.exitcode == process.exitcode == -signal.SIGKILL
    assert caught.value.pid == process.pid
    process.close()


def test_an_exit_code_may_be_any_number() -> None:
    process = plait.Process(target=sys.exit, args=(2**40 + 3,))
    process.start()
    process.join(30)
    assert process.exitcode == 3


@pytest.mark.parametrize("leave", [sys.exit, os._exit])
def test_an_exit_is_no_result(leave: Any) -> None:
    with pytest.raises(WorkerDied, match="exit code 3") as caught:
        result_of(leave, 3)
    assert caught.value.exitcode == 3
    assert caught.value.signal is None


def test_a_timeout_leaves_the_process_running() -> None:
    gate = plait.get_context().Event()
    process = plait.Process(target=gate.wait)
    process.start()
    with pytest.raises(TaskTimeout, match=r"0\.01"):
        process.result(0.01)
    assert process.is_alive()
    gate.set()
    assert process.result(PATIENCE) is True
    process.join()
    process.close()


def test_an_unpicklable_result_fails_alone() -> None:
    with pytest.raises(SerializationError, match="lock") as caught:
        result_of(lambda: {"a": [threading.Lock()]})
    assert caught.value.path == "result['a'][0]"


def test_an_exception_that_cannot_be_unpickled() -> None:
    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("odd")

    def fail() -> None:
        raise Odd(1, 2)

    with pytest.raises(SerializationError, match="Odd was raised"):
        result_of(fail)


def test_result_of_what_was_not_started() -> None:
    with pytest.raises(ValueError, match="start"):
        plait.Process(target=int).result()


def test_a_subclass_that_overrides_run_has_a_result_too() -> None:
    class Doubler(plait.Process):
        def __init__(self, value: int) -> None:
            super().__init__()
            self.value = value

        def run(self) -> int:
            return self.value * 2

    process = Doubler(21)
    process.start()
    assert process.result(PATIENCE) == 42
    process.join()
    process.close()


def test_a_timeout_holds_although_the_child_has_closed_its_channel() -> None:
    def close_all() -> None:
        os.closerange(3, 200)
        signal.pause()

    process = plait.Process(target=close_all)
    process.start()
    with pytest.raises(TaskTimeout):
        process.result(0.2)
    process.kill()
    process.join()
    process.close()


def test_a_result_that_cannot_be_unpickled_and_one_raised_twice() -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    process = plait.Process(target=Bad)
    process.start()
    depths = set()
    for _ in range(3):
        with pytest.raises(SerializationError, match="no number") as caught:
            process.result(PATIENCE)
        depths.add(len(caught.traceback))
    assert len(depths) == 1
    process.join()
    process.close()


def test_a_child_that_closes_its_output_has_closed_it() -> None:
    reader, writer = os.pipe()

    def close(gate: Any) -> None:
        os.close(1)
        gate.wait()

    with open(writer, "w") as file, contextlib.redirect_stdout(file):
        gate = plait.get_context().Event()
        process = plait.Process(target=close, args=(gate,))
        process.start()
    assert os.read(reader, 1) == b""
    gate.set()
    process.join()
    process.close()
    os.close(reader)


def test_a_large_result_that_nobody_asks_for_leaves_nothing() -> None:
    process = plait.Process(target=bytes, args=(1_000_000,))
    process.start()
    process.join()
    process.close()


# ---- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", [None, 3, "f"])
def test_a_target_that_is_no_function_is_refused_with_a_hint(target: Any) -> None:
    with pytest.raises(TypeError, match=r"target=f, not target=f\(\)"):
        plait.Process(target=target)


def test_an_argument_that_cannot_travel_is_named() -> None:
    process = plait.Process(target=print, args=(1, {"log": [threading.Lock()]}))
    with pytest.raises(SerializationError, match="lock") as caught:
        process.start()
    assert caught.value.path == "args[1]['log'][0]"


def test_a_global_that_cannot_travel_is_named_with_its_line(run_script: Any) -> None:
    done = run_script(
        """
        import plait, threading
        guard = threading.Lock()
        def work():
            with guard:
                return 1
        try:
            plait.Process(target=work).start()
        except plait.errors.SerializationError as error:
            print(error)
        """
    )
    assert "'guard'" in done.stdout
    assert "work uses" in done.stdout
    assert "script.py:4" in done.stdout


# ---- the one __main__ ----------------------------------------------------------------------


def test_a_script_needs_no_guard_and_is_not_run_again(run_script: Any) -> None:
    done = run_script(
        """
        import plait, pickle
        print("top level")
        factor = 3
        class Point:
            def __init__(self, x): self.x = x
            def scaled(self): return self.x * factor
        def area(point): return helper(point) * 2
        def helper(point): return point.scaled()
        def unpickle(data): return pickle.loads(data)
        def start(target, *args):
            p = plait.Process(target=target, args=args)
            p.start()
            return p.result(30)
        print(start(area, Point(5)))
        print(start(lambda x, y=10: x + y + factor, 1))
        print(start(unpickle, pickle.dumps(Point(8))).scaled())
        print(type(start(Point, 1)) is Point)
        def make():
            total = 0
            def add(x):
                nonlocal total
                total += x
                return total
            return add
        add = make()
        print(add(1), start(add, 5), add(1))
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        print(start(factorial, 10))
        factor = 4
        print(start(area, Point(5)))
        def helper(point): return -1
        print(start(area, Point(5)))
        """
    )
    expected = ["top level", "30", "14", "24", "True", "1 6 2", "3628800", "40", "-2"]
    assert done.stdout.split("\n")[:-1] == expected


def test_globals_set_by_an_initializer_are_seen_by_tasks(run_script: Any) -> None:
    done = run_script(
        """
        import plait
        from concurrent.futures import ProcessPoolExecutor
        state = None
        def init(value):
            global state
            state = value
        def task(x): return state, x
        with ProcessPoolExecutor(1, mp_context=plait.get_context(),
                                 initializer=init, initargs=(7,)) as pool:
            print(list(pool.map(task, range(2))))
        """
    )
    assert done.stdout == "[(7, 0), (7, 1)]\n"


def test_a_new_pool_sees_globals_and_attributes_as_they_are_now(run_script: Any) -> None:
    done = run_script(
        """
        import plait
        factor = 3
        class C: k = 1
        def work(x): return x * factor, C.k
        def run():
            with plait.get_context().Pool(1) as pool:
                print(pool.map(work, [1]))
        run()
        factor, C.k = 4, 2
        run()
        """
    )
    assert done.stdout == "[(3, 1)]\n[(4, 2)]\n"


def test_multiprocessings_own_objects_travel_inside_closures() -> None:
    context = plait.get_context()
    queue, lock = context.Queue(), context.Lock()

    def put() -> None:
        with lock:
            queue.put(os.getpid())

    process = plait.Process(target=put)
    process.start()
    assert queue.get(timeout=PATIENCE) == process.pid
    process.join()
    process.close()
    queue.close()
    queue.join_thread()
    queue._reader.close()  # its thread closes only the writer


def test_definitions_of_every_kind_travel(run_script: Any) -> None:
    done = run_script(
        """
        import collections, dataclasses, functools, typing, plait
        T = typing.TypeVar("T")
        UserId = typing.NewType("UserId", int)
        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
        class Outer:
            class Inner:
                pass
            @functools.cached_property
            def twice(self): return 2
        @functools.lru_cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        @functools.singledispatch
        def kind(value): return "object"
        @kind.register
        def _(value: int): return "int"
        def same(value: T) -> T: return value
        def user(value: int) -> UserId: return UserId(value)
        def make():
            nothing = None
            return lambda: nothing
        pair = "not a class"
        def local():
            return collections.namedtuple("pair", "a b")(1, 2)
        def start(target, *args):
            p = plait.Process(target=target, args=args)
            p.start()
            try:
                return p.result(30)
            finally:
                p.join()
        assert start(same, 1) == 1
        assert start(user, 2) == 2
        assert start(Point, 3) == Point(3)
        assert start(lambda: Outer.Inner.__qualname__) == "Outer.Inner"
        assert start(lambda: Outer().twice) == 2
        assert start(fib, 20) == 6765
        assert start(lambda: fib(20)) == 6765
        assert start(kind, 1) == "int"
        assert start(make()) is None
        assert start(local) == (1, 2) and pair == "not a class"
        assert start(ValueError, 1).__cause__ is None  # returned, not raised
        with plait.get_context().Pool(1) as pool:
            assert pool.map(fib, [20]) == [6765]
        """
    )
    assert done.stderr == ""


def test_structures_and_arrays_of_ctypes_travel(run_script: Any) -> None:
    done = run_script(
        """
        import ctypes, multiprocessing
        from multiprocessing.sharedctypes import Array
        import plait
        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_double), ("y", ctypes.c_double)]
            def sum(self): return self.x + self.y
        class Solid(Point):
            _fields_ = [("z", ctypes.c_double)]
        class Either(ctypes.Union):
            _anonymous_ = ("point",)
            _fields_ = [("point", Point), ("number", ctypes.c_int)]
        class Packed(ctypes.Structure):
            _pack_ = 1
            _layout_ = "ms"  # 3.14 warns without
            _fields_ = [("letter", ctypes.c_char), ("points", Point * 2)]
        class Node(ctypes.Structure):
            pass
        Node._fields_ = [("next", ctypes.POINTER(Node)), ("number", ctypes.c_int)]
        numbers = (ctypes.c_int * 3)(1, 2, 3)
        def look():
            either = Either()
            either.x = 3.0
            return (list(numbers), ctypes.sizeof(Packed), either.point.x, Node(None, 4).number,
                    Solid(1, 2, 3).z, Point(3, 4).sum())
        def change(points):
            for point in points: point.x *= 2
        assert look()[1] == 33
        process = plait.Process(target=look)
        process.start()
        assert process.result(30) == look()
        process.join()
        shared = Array(Point, [(1, 2), (3, 4)], ctx=plait.get_context())
        process = plait.Process(target=change, args=(shared,))
        process.start()
        process.join()
        assert [point.x for point in shared] == [2, 6]
        with plait.ProcessPoolExecutor(1) as pool:
            for _ in range(2):  # the second time, the worker knows the classes
                assert pool.submit(look).result() == look()
                assert pool.submit(lambda: Packed(b"p").letter).result() == b"p"
            back = pool.submit(lambda: Solid(1, 2, 3)).result()
            assert type(back) is Solid and back.sum() == 3
            assert pool.submit(list, numbers).result() == [1, 2, 3]
        """
    )
    assert done.stderr == ""


def test_functions_of_a_package_run_as_main_import_relatively(tmp_path: Any) -> None:
    import subprocess

    package = tmp_path / "pack"
    package.mkdir()
    (package / "helpers.py").write_text("answer = 42\n")
    (package / "__main__.py").write_text(
        "import plait, runpy\n"
        "def work():\n"
        "    from .helpers import answer\n"
        "    return answer\n"
        "p = plait.Process(target=work)\np.start()\nassert p.result(30) == 42\np.join()\n"
        "runpy.run_path('other.py')\n"
    )
    (tmp_path / "other.py").write_text(
        "import plait\n"
        "number = 3\n"
        "def work():\n"
        "    return number\n"
        "p = plait.Process(target=work)\np.start()\nassert p.result(30) == 3\np.join()\n"
    )
    subprocess.run([sys.executable, "-m", "pack"], check=True, timeout=PATIENCE, cwd=tmp_path)


# ---- what a child gets at start() ------------------------------------------------------------


def test_the_state_of_now_not_of_the_zygotes_start(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAIT_TEST", "ü")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["prog", "--flag"])
    umask = os.umask(0o137)
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))

    def look() -> dict[str, Any]:
        mask = os.umask(0)
        return {
            "cwd": os.getcwd(),
            "variable": os.environ["PLAIT_TEST"],
            "zone": time.tzname[0],
            "path": sys.path[0],
            "argv": sys.argv,
            "umask": mask,
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "affinity": os.sched_getaffinity(0),
            "parent": os.getppid(),
            "group": os.getpgrp(),
            "stdin": sys.stdin.read(),
            "flags": tuple(sys.flags),
            "action": [f[:1] for f in warnings.filters if f[1] is None][:1],
        }

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            seen = result_of(look)
    finally:
        os.umask(umask)
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert seen == {
        "cwd": str(tmp_path),
        "variable": "ü",
        "zone": "JST",
        "path": str(tmp_path),
        "argv": ["prog", "--flag"],
        "umask": 0o137,
        "core": 0,
        "affinity": os.sched_getaffinity(0),
        "parent": os.getpid(),
        "group": os.getpgrp(),
        "stdin": "",
        "flags": tuple(sys.flags),
        "action": [("ignore",)],
    }


def test_an_environment_that_is_a_plain_dict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "PLAIT_TEST": "1"})
    assert result_of(os.getenv, "PLAIT_TEST") == "1"


def test_affinity_and_niceness_are_taken_over(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait
        def look(): return sorted(os.sched_getaffinity(0)), os.nice(0)
        def start():
            p = plait.Process(target=look)
            p.start()
            return p.result(30)
        start()
        cpu = min(os.sched_getaffinity(0))
        os.sched_setaffinity(0, [cpu])
        os.nice(2)
        assert start() == ([cpu], os.nice(0)), start()
        """
    )
    assert done.stderr == ""


def test_a_variable_that_is_read_at_exec_makes_a_new_zygote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    first = result_of(hash, "plait")
    assert result_of(hash, "plait") == first
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    assert result_of(hash, "plait") != first


def test_flags_are_those_of_the_parent(run_script: Any, tmp_path: Any) -> None:
    import subprocess

    script = tmp_path / "flags.py"
    script.write_text(
        "import plait, sys\n"
        "def look(): return tuple(sys.flags), sys.warnoptions, dict(sys._xoptions)\n"
        "p = plait.Process(target=look)\np.start()\n"
        "assert p.result(30) == look(), (p.result(), look())\np.join()\n"
    )
    flags = ["-O", "-W", "ignore::DeprecationWarning", "-X", "dev", "-s", "-B"]
    subprocess.run([sys.executable, *flags, str(script)], check=True, timeout=PATIENCE)


def test_output_goes_where_the_parents_goes_now(capfd: pytest.CaptureFixture[str]) -> None:
    def speak() -> None:
        print("out")
        print("err", file=sys.stderr)
        sys.stdout.flush()
        os.write(1, b"raw\n")

    result_of(speak)
    assert capfd.readouterr() == ("out\nraw\n", "err\n")
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured), contextlib.redirect_stderr(captured):
        result_of(speak)
    assert sorted(captured.getvalue().split()) == ["err", "out", "raw"]
    assert capfd.readouterr() == ("", "")


def test_output_follows_a_redirection_to_a_file(tmp_path: Any) -> None:
    path = tmp_path / "log"
    with path.open("w", encoding="utf-16") as file, contextlib.redirect_stdout(file):
        print("before")
        result_of(print, "änderung")
        print("after")
    assert path.read_text("utf-16").replace("\ufeff", "").split() == ["before", "änderung", "after"]


def test_signals_have_their_defaults() -> None:
    def look() -> tuple[Any, Any]:
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(
            signal.SIGTERM
        )

    assert result_of(look) == (True, signal.SIG_DFL)


def test_names_and_parents() -> None:
    def look() -> tuple[str, int]:
        parent = plait.parent_process()
        assert parent is not None
        assert parent.is_alive()
        return plait.current_process().name, parent.pid or 0

    process = plait.Process(target=look, name="Ada")
    process.start()
    assert process in plait.active_children()
    assert process.result(PATIENCE) == ("Ada", os.getpid())
    process.join()
    process.close()


def test_a_daemonic_child_may_have_children() -> None:
    def nested() -> int:
        child = plait.Process(target=os.getppid)
        child.start()
        try:
            assert child.result(30) == os.getpid()
            return 1
        finally:
            child.join()

    process = plait.Process(target=nested, daemon=True)
    process.start()
    assert process.result(PATIENCE) == 1
    process.join()
    process.close()


def test_many_descriptors_travel() -> None:
    pipes = [os.pipe() for _ in range(150)]
    connections = []
    from multiprocessing.connection import Connection

    for reader, writer in pipes:
        connections += [Connection(reader, writable=False), Connection(writer, readable=False)]

    def count(received: list[Any]) -> int:
        return len({connection.fileno() for connection in received})

    assert result_of(count, connections) == 300
    for connection in connections:
        connection.close()


def test_threads_may_start_processes_at_the_same_time() -> None:
    found: list[int] = []

    def work(number: int) -> None:
        found.extend(result_of(int, str(number * 10 + i)) for i in range(5))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(n * 10 + i for n in range(6) for i in range(5))


def test_results_do_not_touch_the_parents_globals(run_script: Any) -> None:
    done = run_script(
        """
        import plait
        factor = 1
        def make():
            global factor
            factor = 2
            return lambda: factor
        p = plait.Process(target=make)
        p.start()
        made = p.result(30)
        print(factor, made())
        """
    )
    assert done.stdout == "1 1\n"


# ---- spares --------------------------------------------------------------------------------


def test_a_process_started_after_an_interrupt_does_not_get_it(run_script: Any) -> None:
    # ^C at a terminal reaches spares too: they must not hand it on to what they are for later.
    run_script("""
        import os, signal, time
        import plait
        from plait import _zygote

        os.setpgid(0, 0)
        plait.Process(target=int).start()
        for _ in range(5):
            while not _zygote._zygote.spares[0]:
                time.sleep(0.001)
            try:
                os.killpg(0, signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                p = plait.Process(target=abs, args=(-5,))
                p.start()
                assert p.result(60) == 5
    """)


def test_an_interrupt_right_after_start_arrives() -> None:
    for _ in range(10):
        process = plait.Process(target=time.sleep, args=(60,))
        process.start()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        with pytest.raises((KeyboardInterrupt, WorkerDied)):  # in the target, or before it
            process.result(PATIENCE)
        process.join()
        process.close()


def test_who_blocks_interrupts_while_starting_shields_the_child() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = plait.Process(target=signal.pthread_sigmask, args=(signal.SIG_BLOCK, ()))
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    assert process.result(PATIENCE) == {signal.SIGINT, *before}
    process.join()
    process.close()
    assert result_of(signal.pthread_sigmask, signal.SIG_BLOCK, ()) == before


def test_a_zygote_that_cannot_be_replaced_spoils_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert result_of(int) == 0
    settle()
    zygote = _zygote._zygote
    assert zygote is not None
    assert zygote.pid is not None

    def fail(base: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(_zygote, "_start", fail)
    os.kill(zygote.pid, signal.SIGKILL)
    os.waitid(os.P_PID, zygote.pid, os.WEXITED | os.WNOWAIT)
    deadline = time.monotonic() + PATIENCE
    while _zygote._zygote is not None:  # a spare just forked may hold its socket a moment longer
        assert time.monotonic() < deadline
        spares = zygote.spares[0]
        if spares:
            os.kill(spares[0], signal.SIGKILL)
        monkeypatch.setattr(_zygote, "_now", _state.of_process())
        _zygote.refill()  # as in join(): the child runs, so this must not fail
    monkeypatch.undo()
    assert result_of(int) == 0
    settle()


def test_a_replaced_zygotes_spares_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        monkeypatch.setenv("PYTHONHASHSEED", str(number))
        assert result_of(int) == 0  # two spares are asked for; what is known of them varies


def test_a_start_right_after_another_changed_what_children_get(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Spares that have the earlier state are still there.
    for name in "abc":
        settle()
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("PLAIT_TEST", name)
        monkeypatch.setattr(sys, "argv", [name])
        for _ in range(3):
            seen = result_of(lambda: (os.getcwd(), os.getenv("PLAIT_TEST"), sys.argv))
            assert seen == (str(tmp_path / name), name, [name])
    monkeypatch.delenv("PLAIT_TEST")
    assert result_of(os.getenv, "PLAIT_TEST") is None


def test_stdin_is_empty_and_may_be_closed() -> None:
    for _ in range(3):
        assert result_of(lambda: (sys.stdin.read(), sys.stdin.close())) == ("", None)
        settle()


def test_threads_of_a_child_are_waited_for() -> None:
    reader, writer = plait.get_context().Pipe(duplex=False)

    def start_and_leave() -> None:
        def speak() -> None:
            main.join()
            writer.send("spoken")

        main = threading.main_thread()
        threading.Thread(target=speak).start()

    assert result_of(start_and_leave) is None
    assert reader.poll(PATIENCE)
    assert reader.recv() == "spoken"
    reader.close()
    writer.close()


def test_filters_that_name_classes_of_packages_import_none(run_script: Any, tmp_path: Any) -> None:
    (tmp_path / "heavy.py").write_text("class HeavyWarning(UserWarning): pass\n")
    done = run_script(
        """
        import plait, sys, warnings
        import heavy
        warnings.simplefilter("error", heavy.HeavyWarning)
        def look():
            import sys, warnings
            before = "heavy" in sys.modules
            warnings.warn("fine", UserWarning)
            import heavy
            class Special(heavy.HeavyWarning): pass
            try:
                warnings.warn("not fine", Special)
            except Special:
                return before
        def nested():
            p = plait.Process(target=look)
            p.start()
            return p.result(30)
        for target in (look, look, nested):
            p = plait.Process(target=target)
            p.start()
            print(p.result(30))
            p.join()
        """
    )
    assert done.stdout.split() == ["False", "False", "False"]
