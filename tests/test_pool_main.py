"""The process pool as scripts and notebooks use it: functions of ``__main__``, by value."""

from __future__ import annotations

from typing import Any


def test_functions_of_a_script(run_script: Any) -> None:
    done = run_script(
        """
        import plait
        FACTOR = 3
        class Point:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return self.x == other.x
        def times(n): return n * FACTOR
        def move(p): return Point(p.x + 1)
        def adder(k): return lambda n: n + k
        with plait.ProcessPoolExecutor(2) as pool:
            print(list(pool.map(times, range(4))))
            print(pool.submit(move, Point(1)).result() == Point(2))
            print(list(pool.map(adder(10), range(3))), pool.submit(lambda: FACTOR).result())
            f = pool.submit(lambda: (lambda: 5))
            print(f.result()())
            def broken(): raise KeyError("mine")
            try:
                pool.submit(broken).result()
            except KeyError as error:
                print(error)
        """
    )
    assert done.stdout.splitlines() == ["[0, 3, 6, 9]", "True", "[10, 11, 12] 3", "5", "'mine'"]
    assert done.stderr == ""


def test_what_changed_is_sent_again(run_script: Any) -> None:
    done = run_script(
        """
        import plait
        pool = plait.ProcessPoolExecutor(2)
        def f(n): return n + 1
        print(list(pool.map(f, range(3))))
        def f(n): return n + 2
        print(list(pool.map(f, range(3))))
        BASE = 10
        def g(n): return n + BASE
        print(list(pool.map(g, range(3))))
        BASE = 20
        print(list(pool.map(g, range(3))), pool.submit(g, 1).result())
        def helper(n): return -n
        def h(n): return helper(n)
        print(pool.submit(h, 1).result())
        def helper(n): return n * 100
        print(pool.submit(h, 1).result(), list(pool.map(h, [1, 2])))
        table = {"a": 1}
        def look(key): return table.get(key)
        print(pool.submit(look, "a").result())
        table["a"] = 2
        print(pool.submit(look, "a").result())
        cell = [1]
        def closure():
            k = 1
            def inner(n): return n + k
            def more():
                nonlocal k
                k += 10
            return inner, more
        inner, more = closure()
        print(pool.submit(inner, 0).result())
        more()
        print(pool.submit(inner, 0).result())
        class C:
            def run(self): return "old"
        print(pool.submit(C().run).result())
        class C:
            def run(self): return "new"
        print(pool.submit(C().run).result())
        pool.shutdown()
        """
    )
    assert done.stdout.splitlines() == [
        "[1, 2, 3]",
        "[2, 3, 4]",
        "[10, 11, 12]",
        "[20, 21, 22] 21",
        "-1",
        "100 [100, 200]",
        "1",
        "2",
        "1",
        "11",
        "old",
        "new",
    ]
    assert done.stderr == ""


def test_the_initializers_globals_are_the_tasks(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait
        STATE = None
        def begin(value):
            global STATE
            STATE = (value, os.getpid())
        def look(_): return STATE[0], STATE[1] == os.getpid()
        def count(_):
            global COUNT
            COUNT += 1
            return COUNT
        with plait.ProcessPoolExecutor(2, initializer=begin, initargs=("set",)) as pool:
            print(set(pool.map(look, range(50))))
            print(set(pool.map(lambda _: look(0), range(50))))
        # What tasks make of a global stays in their worker.
        COUNT = 0
        with plait.ProcessPoolExecutor(1) as pool:
            print([pool.submit(count, 0).result() for _ in range(3)], COUNT)
        """
    )
    assert done.stdout.splitlines() == ["{('set', True)}", "{('set', True)}", "[1, 2, 3] 0"]
    assert done.stderr == ""


def test_a_global_that_cannot_travel_is_named(run_script: Any) -> None:
    done = run_script(
        """
        import plait, sys
        frame = sys._getframe()
        def uses(): return frame
        with plait.ProcessPoolExecutor(1) as pool:
            try:
                pool.submit(uses).result()
            except plait.errors.SerializationError as error:
                print("frame" in str(error), "uses" in str(error))
            print(pool.submit(abs, -1).result())
        """
    )
    assert done.stdout == "True True\n1\n"


def test_exit_with_tasks_left(run_script: Any) -> None:
    done = run_script(
        """
        import plait, time
        pool = plait.ProcessPoolExecutor(2)
        for n in range(6):
            pool.submit(time.sleep, 0.05).add_done_callback(lambda f: print(f.cancelled()))
        """
    )
    assert done.stdout.splitlines() == ["False"] * 6
    assert done.stderr == ""


def test_no_guard_is_needed(run_script: Any) -> None:
    done = run_script(
        """
        import plait
        print("once")
        with plait.ProcessPoolExecutor(2) as pool:
            print(sum(pool.map(lambda n: n, range(10))))
        """
    )
    assert done.stdout == "once\n45\n"


def test_a_pool_while_modules_are_imported(run_script: Any, tmp_path: Any) -> None:
    (tmp_path / "helper.py").write_text(
        "import plait\n"
        "def f(n): return n + 1\n"
        "with plait.ProcessPoolExecutor(2) as pool:\n"
        "    VALUE = list(pool.map(abs, [-1, -2]))\n"
    )
    done = run_script("import helper; print(helper.VALUE)")
    assert done.stdout == "[1, 2]\n"


def test_a_pool_in_a_forked_copy(run_script: Any) -> None:
    done = run_script(
        """
        import os, plait
        pool = plait.ProcessPoolExecutor(2)
        print(pool.submit(abs, -1).result(), flush=True)
        pid = os.fork()
        if pid == 0:
            try:
                pool.submit(abs, -2).result(60)
            except Exception as error:
                print(isinstance(error, RuntimeError), flush=True)
            with plait.ProcessPoolExecutor(2) as own:
                print(own.submit(abs, -3).result(60), flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        print(pool.submit(abs, -4).result(60))
        pool.shutdown()
        """
    )
    assert done.stdout.splitlines() == ["1", "True", "3", "4"]
