"""The zygote and its spares: what only children that are forked have."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from typing import Any

import plait
import pytest
from conftest import PATIENCE, settle
from plait import _zygote


def start(count: int) -> list[plait.Process]:
    processes = [plait.Process(target=abs, args=(-number,)) for number in range(count)]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[plait.Process]) -> list[Any]:
    results = [process.result(PATIENCE) for process in processes]
    for process in processes:
        process.join()
        process.close()
    return results


def result_of(target: Any, *args: Any) -> Any:
    process = plait.Process(target=target, args=args)
    process.start()
    return finish([process])[0]


# ---- spares --------------------------------------------------------------------------------


@pytest.mark.usefixtures("leaves_nothing")
def test_spares_follow_demand() -> None:
    settle()
    zygote = _zygote._zygote
    assert zygote is not None
    before = zygote.spares[1]
    assert finish(start(12)) == list(range(12))
    assert zygote.spares[1] >= max(before, 4)
    assert len(settle()) == zygote.spares[1]


@pytest.mark.usefixtures("leaves_nothing")
def test_output_streams_that_seek_and_that_do_not(tmp_path: Any) -> None:
    def look() -> tuple[bool, str, str | None, bool]:
        print("ä", end="", flush=True)
        out = sys.stdout
        return out.seekable(), out.encoding, out.errors, out.line_buffering

    reader, writer = os.pipe()
    for encoding, errors in (("utf-8", "strict"), ("latin-1", "replace"), ("utf-16", None)):
        for _ in range(3):  # from a spare, and again
            path = tmp_path / "file"
            with path.open("w", encoding=encoding, errors=errors) as file:
                with contextlib.redirect_stdout(file):
                    seen = result_of(look)
                assert seen == (True, file.encoding, file.errors, False)
            assert path.read_text(encoding) == "ä"
            with open(writer, "w", buffering=1, encoding=encoding, closefd=False) as file:
                with contextlib.redirect_stdout(file):
                    seen = result_of(look)
                assert seen == (False, file.encoding, file.errors, True)
            assert os.read(reader, 10).decode(encoding) == "ä"
    os.close(reader)
    os.close(writer)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_stopped_zygote_is_set_going_when_a_child_is_needed() -> None:
    result_of(int)
    zygote = _zygote._zygote
    assert zygote is not None
    os.kill(zygote.pid or 0, signal.SIGSTOP)
    processes = start(5)  # more than there are spares
    assert finish(processes) == list(range(5))
    assert _zygote._zygote is zygote  # not given up


@pytest.mark.usefixtures("leaves_nothing")
def test_a_zygote_killed_at_any_moment_loses_no_child_and_leaves_none() -> None:
    for number in range(20):
        zygote = _zygote._zygote
        assert zygote is not None
        reaper = subprocess.Popen(["sh", "-c", f"sleep 0.00{number % 10}; kill -9 {zygote.pid}"])
        processes = start(6)
        assert finish(processes) == list(range(6))
        reaper.wait()


@pytest.mark.usefixtures("leaves_nothing")
def test_a_spare_that_has_waited_long_takes_nothing_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As after a minute: it refuses what is sent, and another child takes its place.
    settle()
    zygote = _zygote._zygote
    assert zygote is not None

    class Late:
        def take(self) -> Any:
            child = zygote.take()
            if child is not None:
                os.kill(child.pid, signal.SIGKILL)
                select.select([child.sentinel], [], [])
            return child

        def __getattr__(self, name: str) -> Any:
            return getattr(zygote, name)

    monkeypatch.setattr(_zygote, "_zygote", Late())
    assert result_of(abs, -3) == 3


def test_signals_to_the_users_process_group_are_not_for_spares(run_script: Any) -> None:
    run_script(
        """
        import os, plait, signal, time
        from plait import _zygote
        os.setpgid(0, 0)
        def group(): return os.getpgrp()
        def start():
            p = plait.Process(target=group)
            p.start()
            p.join()
            return p.result()
        assert start() == os.getpgrp()
        while not (spares := _zygote._zygote.spares[0]):
            time.sleep(0.001)
        zygote = _zygote._zygote.pid
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.killpg(0, signal.SIGTERM)
        assert _zygote._zygote.pid == zygote
        assert set(spares) <= set(_zygote._zygote.spares[0])
        assert [start() for _ in range(4)] == [os.getpgrp()] * 4
        """
    )


# ---- modules imported ahead ------------------------------------------------------------------


def test_modules_are_imported_ahead_when_named_before_the_first_start(run_script: Any) -> None:
    done = run_script(
        """
        import plait, time
        from plait import _zygote
        plait.get_context().set_forkserver_preload(["__main__", "csv", "no_such_module"])
        def look():
            import sys
            return "csv" in sys.modules
        def start():
            p = plait.Process(target=look)
            p.start()
            p.join()
            return p.result()
        start()
        while not _zygote._zygote.spares[0]:
            time.sleep(0.001)
        assert start()
        """
    )
    assert done.stderr == ""


def test_modules_are_imported_ahead_when_named_later(run_script: Any) -> None:
    run_script(
        """
        import plait, time
        from plait import _zygote
        def look():
            import sys
            return "csv" in sys.modules
        def start():
            p = plait.Process(target=look)
            p.start()
            p.join()
            return p.result()
        assert not start()
        while not (spares := _zygote._zygote.spares[0]):
            time.sleep(0.001)
        plait.get_context().set_forkserver_preload(["csv"])
        assert not set(spares) & set(_zygote._zygote.spares[0])  # those that lack it are gone
        while not _zygote._zygote.spares[0]:
            time.sleep(0.001)
        assert start()
        """
    )


def test_a_library_that_ends_its_threads_before_a_fork_can_be_imported_ahead(
    run_script: Any, tmp_path: Any
) -> None:
    # NumPy's OpenBLAS does so by pthread_atfork.
    pytest.importorskip("numpy")
    run_script(
        """
        import plait, time
        from plait import _zygote
        plait.get_context().set_forkserver_preload(["numpy"])
        def look():
            import sys
            ahead = "numpy" in sys.modules
            import numpy
            matrix = numpy.ones((300, 300))
            return ahead, float((matrix @ matrix)[0, 0])
        def start():
            p = plait.Process(target=look)
            p.start()
            p.join()
            return p.result()
        start()
        while not _zygote._zygote.spares[0]:
            time.sleep(0.001)
        assert start() == (True, 300)
        """
    )


def test_a_module_that_leaves_threads_running_is_done_without(
    run_script: Any, tmp_path: Any
) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    done = run_script(
        """
        import plait, time
        from plait import _zygote
        plait.get_context().set_forkserver_preload(["threaded", "csv"])
        def look():
            import sys
            return "threaded" in sys.modules, "csv" in sys.modules
        def start():
            p = plait.Process(target=look)
            p.start()
            p.join()
            return p.result()
        while start() != (False, True):
            time.sleep(0.001)
        """
    )
    assert done.stderr.count("RuntimeWarning: threaded starts threads") == 1


@pytest.mark.parametrize("names", ["csv", [1], ["csv", None]])
def test_names_of_modules_are_a_list_of_strings(names: Any) -> None:
    with pytest.raises(TypeError, match="list of strings"):
        plait.get_context().set_forkserver_preload(names)


def test_modules_that_children_import_are_learned(run_script: Any) -> None:
    run_script(
        """
        import plait, time
        from plait import _zygote
        def look():
            import sys
            had = "csv" in sys.modules
            import csv
            return had
        def start():
            p = plait.Process(target=look)
            p.start()
            p.join()
            return p.result()
        def pause():
            while not _zygote._zygote.spares[0]:
                time.sleep(0.001)
        assert not start()
        pause()
        assert not start()  # nobody asked for it
        plait.get_context().set_forkserver_preload([], learn=True)
        pause()
        while not start():
            pause()
        plait.get_context().set_forkserver_preload([])
        pause()
        assert start()  # it is there now
        """
    )


def test_a_learned_module_that_leaves_threads_running_ends_the_learning(
    run_script: Any, tmp_path: Any
) -> None:
    (tmp_path / "threaded.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    done = run_script(
        """
        import plait, time
        from plait import _zygote
        plait.get_context().set_forkserver_preload([], learn=True)
        def work():
            import threaded
            return 1
        while _zygote._learn:
            p = plait.Process(target=work)
            p.start()
            assert p.result() == 1
            p.join()
        p = plait.Process(target=abs, args=(-1,))
        p.start()
        assert p.result() == 1
        p.join()
        """
    )
    assert done.stderr.count("RuntimeWarning: a module that child processes import") == 1
