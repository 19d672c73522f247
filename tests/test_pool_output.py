"""What a process pool's tasks print, and when that is written."""

from __future__ import annotations

import io
import sys
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
