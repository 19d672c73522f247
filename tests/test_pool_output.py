"""What a process pool's tasks print, and when that is written."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterator

import plait
import pytest
from conftest import PATIENCE
from light import square
from plait.errors import TaskTimeout


@pytest.fixture
def pool() -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(2) as pool:
        yield pool


def print_letters(count: int) -> None:
    print("é" * count)


def test_a_result_comes_after_what_was_printed_before_it(
    pool: plait.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(10):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        monkeypatch.setattr(sys, "stdout", stream)
        futures = [pool.submit(print_letters, 20_000) for _ in range(3)]
        for future in futures:
            future.result(PATIENCE)
        printed = stream.buffer.getvalue().decode()
        monkeypatch.undo()
        assert printed.count("é") == 60_000
        assert len(printed) == 60_003


def print_without_end() -> None:
    while True:
        print("more")


def test_who_prints_without_end_holds_nothing_up(
    pool: plait.ProcessPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    late = pool.options(timeout=0.5).submit(print_without_end)
    assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
    with pytest.raises(TimeoutError):
        late.result(0.1)
    with pytest.raises(TaskTimeout):
        late.result(PATIENCE)


class Unread(io.TextIOBase):
    """A pipe that nobody reads."""

    def __init__(self) -> None:
        self.is_full = threading.Event()
        self.is_read = threading.Event()

    def write(self, text: str) -> int:
        self.is_full.set()
        self.is_read.wait(10 * PATIENCE)
        return len(text)


def test_a_stdout_that_nobody_reads_holds_nothing_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = Unread()
    done = threading.Event()
    monkeypatch.setattr(sys, "stdout", unread)
    with plait.ProcessPoolExecutor(3) as pool:
        spoken = pool.submit(print_letters, 3)
        assert unread.is_full.wait(PATIENCE)
        try:
            with pytest.raises(TimeoutError):
                spoken.result(0.05)
            # Starts, limits and callbacks, which the driver sees to.
            pool.submit(square, 3).add_done_callback(lambda _: done.set())
            assert done.wait(PATIENCE)
            late = pool.options(timeout=0.2).submit(time.sleep, 10 * PATIENCE)
            assert isinstance(late.exception(PATIENCE), TaskTimeout)
            assert pool.submit(square, 4).result() == 16  # without a limit as well
            assert list(pool.map(square, range(20))) == [n * n for n in range(20)]
            assert not spoken.done()
        finally:
            unread.is_read.set()
        assert spoken.result(PATIENCE) is None


def test_a_stdout_that_raises_what_it_should_not(
    monkeypatch: pytest.MonkeyPatch, pool: plait.ProcessPoolExecutor
) -> None:
    class Ends(BaseException):
        pass

    class Rude(io.TextIOBase):
        def write(self, text: str) -> int:
            raise Ends

    told = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: told.append(kind))
    monkeypatch.setattr(sys, "stdout", Rude())
    futures = [pool.submit(print_letters, 3) for _ in range(2)]
    assert [future.exception(PATIENCE) for future in futures] == [None, None]
    assert told == [Ends, Ends]


def test_a_stdout_that_uses_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    with plait.ProcessPoolExecutor(1) as pool:

        class Counted(io.TextIOBase):
            def write(self, text: str) -> int:
                written.append((text, pool.submit(square, len(text)).result(PATIENCE)))
                return len(text)

        monkeypatch.setattr(sys, "stdout", Counted())
        pool.submit(print_letters, 3).result(PATIENCE)
    assert written == [("ééé\n", 16)]
