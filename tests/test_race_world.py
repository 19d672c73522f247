"""`plait.lab.race`: files, what is put in another's place, and more threads than orders to try."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from types import SimpleNamespace

import pytest
from plait.lab import race

LONG = 60.0  # seconds: nothing here needs as much


def always(_):
    return True


# ---- files are one place ----


def makes_folder(s):
    if not os.path.isdir(s.path):
        os.mkdir(s.path)


def makes_folder_anyhow(s):
    os.makedirs(s.path, exist_ok=True)


def makes_file(s):
    if not os.path.exists(s.path):
        with open(s.path, "x") as file:
            file.write("mine")


def makes_file_by_path(s):
    if not (s.folder / "file").exists():
        (s.folder / "file").touch(exist_ok=False)


def counts(s):
    with open(s.path) as file:
        count = int(file.read() or 0)
    own = f"{s.path}-{threading.current_thread().name}"
    with open(own, "w") as file:
        file.write(str(count + 1))
    os.replace(own, s.path)


def counts_locked(s):
    with s.lock:
        counts(s)


@pytest.fixture
def folder(tmp_path):
    """A setup whose state has a folder of its own in each run."""
    made = []

    def setup():
        made.append(tmp_path / str(len(made)))
        made[-1].mkdir()
        return SimpleNamespace(folder=made[-1], path=str(made[-1] / "file"), lock=threading.Lock())

    return setup


@pytest.mark.parametrize("body", [makes_folder, makes_file, makes_file_by_path])
def test_check_then_act_on_files(folder, body):
    report = race(folder, [body] * 2, always, budget=LONG)
    assert isinstance(report.error, FileExistsError), report


def test_folders_made_in_one_step(folder):
    assert race(folder, [makes_folder_anyhow] * 2, always, budget=LONG).proved


def test_a_count_in_a_file(folder):
    def setup():
        state = folder()
        (state.folder / "file").write_text("0")
        return state

    def is_two(state):
        return (state.folder / "file").read_text() == "2"

    assert race(setup, [counts] * 2, is_two, budget=LONG).kind == "invariant"
    assert race(setup, [counts_locked] * 2, is_two, budget=LONG).proved


def throws_dice(_):
    random.random()


def asks_a_database(_):
    sqlite3.connect(":memory:").close()


@pytest.mark.parametrize(
    ("body", "words"), [(throws_dice, "from run to run"), (asks_a_database, "outside")]
)
def test_what_is_outside_of_the_program_proves_nothing(body, words):
    report = race(list, [body] * 2, always, budget=LONG)
    assert not report.proved
    assert any(words in one for one in report.unseen)


def test_attributes_of_functions():
    def setup():
        counter.n = 0

    def counter(_):
        counter.n += 1

    assert race(setup, [counter] * 2, lambda _: counter.n == 2, budget=LONG).found


# ---- an object that another thread puts another one in the place of ----

shared = [0]


def resets():
    global shared
    shared = [0]


def adds(_):
    shared[0] += 1


def copies(_):
    global shared
    shared = [shared[0]]


def test_an_item_of_what_has_been_replaced():
    report = race(resets, [adds, copies], lambda _: shared[0] == 1, budget=LONG)
    assert report.found
    text = " ".join(report.explanation.split())
    assert "writes shared[0] = 1 (of what shared was when it read it)" in text
    assert shared == [0]


def adds_late(s):
    s.box.n += one(s)


def one(_):
    return 1


def replaces(s):
    s.box = SimpleNamespace(n=s.box.n)


def fills(s):
    s.items.append(1)


def takes_all(s):
    items = s.items
    s.items = []
    s.count += len(items)


@pytest.mark.parametrize(
    ("threads", "invariant", "words"),
    [
        ([adds_late, replaces], lambda s: s.box.n == 1, "writes s.box.n = 1 (of what s.box was"),
        ([fills, takes_all], lambda s: s.count + len(s.items) == 1, "s.items = [1] (of what"),
    ],
)
def test_an_attribute_of_what_has_been_replaced(threads, invariant, words):
    def setup():
        return SimpleNamespace(box=SimpleNamespace(n=0), items=[], count=0)

    report = race(setup, threads, invariant, budget=LONG)
    assert report.found
    assert words in " ".join(report.explanation.split())


# ---- more threads than orders to try ----


def test_many_threads():
    def add(s):
        s.n += 1

    report = race(lambda: SimpleNamespace(n=0), [add] * 9, lambda s: s.n == 9, budget=LONG)
    assert report.found
    assert report.preemptions == 1
    assert report.bound == -1


def test_no_preemption_is_no_proof():
    def body(s):
        for _ in range(20):
            s.n = s.n + 1

    report = race(lambda: SimpleNamespace(n=0), [body] * 4, always, budget=0.4)
    assert not report.found
    assert report.bound < 2
    assert not report.proved
    assert "no proof: most races need one or two" in report.verdict


def test_a_lock_has_its_name_in_the_columns():
    def first(s):
        with s.left, s.right:
            pass

    def second(s):
        with s.right, s.left:
            pass

    def setup():
        return SimpleNamespace(left=threading.Lock(), right=threading.RLock())

    report = race(setup, [first, second], always, budget=LONG)
    for text in (report.explanation, report._repr_html_()):
        assert "acquires state.left" in text
        assert "acquires state.right" in text
    with report.step() as stepper:
        stepper.forward()
        assert "acquires state.left" in str(stepper)
