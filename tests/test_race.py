"""`plait.lab.race`: what it finds, what it proves, that it repeats, and that it leaves nothing."""

from __future__ import annotations

import _thread
import contextlib
import itertools
import json
import queue
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import plait
import pytest
from conftest import PATIENCE
from plait.lab import race, races
from plait.lab.race import _race
from plait.lab.race_command import answer

EXHIBITS = races.exhibits()
HEAVY = {"notify-all", "two-conditions", "waiter"}  # hundreds of interleavings, of 3 or 4 threads
FIXES = [
    pytest.param(name, fix, marks=[pytest.mark.once] if fix in HEAVY else [])
    for name, exhibit in EXHIBITS.items()
    for fix in exhibit.fixes
]
LONG = 240.0  # seconds: nothing here needs as much, but a machine may stand still


@pytest.fixture(autouse=True)
def leaves_no_thread_and_no_patch():
    names = [
        (module, name)
        for module in (threading, queue, plait, plait.sync)
        for name in plait.sync.__all__
        if hasattr(module, name)
    ]
    before = [getattr(module, name) for module, name in names]
    threads, sleep, start = set(threading.enumerate()), time.sleep, threading.Thread.start
    yield
    assert [getattr(module, name) for module, name in names] == before
    assert time.sleep is sleep
    assert threading.Thread.start is start
    assert sys.stdout.__class__.__module__ != "plait.lab.race_patches"
    assert set(threading.enumerate()) <= threads


# ---- the exhibits ----


@pytest.mark.parametrize("name", EXHIBITS)
def test_each_bug_is_found_explained_and_repeated(name):
    exhibit = EXHIBITS[name]
    report = exhibit.race(budget=LONG)
    assert report.found, report
    assert report.deterministic
    assert report.preemptions <= 1
    assert set(report.schedule) <= set(range(len(exhibit.bug.threads)))
    assert report.kind == ("deadlock" if name in ("bounded-queue", "philosophers") else "invariant")
    heads = report.explanation.splitlines()[2]
    assert heads.strip().startswith("#")
    assert heads.count("thread") == len(exhibit.bug.threads)
    states = [repr(_values(report.replay())) for _ in range(3)]
    assert states == [repr(_values(report.state))] * 3


def _values(state):
    return {key: value for key, value in vars(state).items() if "race" not in repr(value)}


@pytest.mark.parametrize(("name", "fix"), FIXES)
def test_each_fix_is_proved(name, fix):
    report = EXHIBITS[name].race(fix, budget=LONG)
    assert not report.found, report
    assert report.proved
    assert report.bound >= 2 or report.exhausted
    assert report.explanation.startswith("Nothing found")
    with pytest.raises(RuntimeError, match="nothing was found"):
        report.replay()


def test_an_unknown_fix():
    with pytest.raises(ValueError, match="lock, atomic, own"):
        EXHIBITS["lost-update"].race("prayer")


# ---- what is found, and what is not ----


def add(times, state):
    for _ in range(times):
        seen = state.value
        state.value = seen + 1


@pytest.mark.parametrize("end", range(1, 5))
def test_all_ends_of_a_known_program(end):
    """Of two unprotected additions in each of two threads between 2 and 4 are left, never 1."""
    report = race(
        lambda: SimpleNamespace(value=0),
        [partial(add, 2)] * 2,
        lambda state: state.value != end,
        budget=LONG,
    )
    assert report.found is (end != 1)
    assert report.exhausted is (end == 1)
    if report.found:
        assert report.state.value == report.replay().value == end


def test_columns():
    def first(state):
        seen = state["n"]
        state["n"] = seen + 1

    report = race(lambda: {"n": 0}, [first, first], lambda state: state["n"] == 2)
    assert "reads state['n'] = 0" in report.explanation
    assert "writes state['n'] = 1" in report.explanation
    assert report.schedule == [0, 1, 1, 0]
    lines = [line for line in report.explanation.splitlines() if "= 1" in line]
    assert len({line.index("writes") for line in lines}) == 2  # a column each
    data = json.loads(report.to_json())
    assert [step["thread"] for step in data["steps"]] == report.schedule
    assert "plait-race" in report._repr_html_()


total = 0
total_lock = threading.Lock()


def global_bare(_):
    global total
    seen = total
    total = seen + 1


def global_locked(_):
    global total
    with total_lock:
        total = total + 1


def global_reset():
    global total
    total = 0


def test_globals_and_a_lock_that_was_made_before():
    assert race(global_reset, [global_bare] * 2, lambda _: total == 2).found
    lock = total_lock
    report = race(global_reset, [global_locked] * 2, lambda _: total == 2, budget=LONG)
    assert report.proved
    assert total_lock is lock
    assert not total_lock.locked()


@pytest.mark.parametrize("make", [threading.Lock, plait.Lock, threading.RLock, plait.RLock])
def test_closures_and_a_lock_that_was_made_before(make):
    count, lock, real = 0, make(), make

    def reset():
        nonlocal count
        count = 0

    def bare(_):
        nonlocal count
        seen = count
        count = seen + 1

    def locked(_):
        nonlocal count
        with lock:
            count = count + 1

    assert race(reset, [bare] * 2, lambda _: count == 2).replay() is None
    assert count == 1
    assert race(reset, [locked] * 2, lambda _: count == 2, budget=LONG).proved
    assert isinstance(lock, type(real()))


def test_a_lock_of_a_state_that_was_made_before():
    state = SimpleNamespace(lock=threading.Lock(), n=0)
    real = state.lock

    def setup():
        state.n = 0
        return state

    def body(state):
        with state.lock:
            state.n = state.n + 1

    assert race(setup, [body] * 2, lambda state: state.n == 2, budget=LONG).proved
    assert state.lock is real


def test_code_without_source():
    names = {}
    exec("def body(state):\n    seen = state.value\n    state.value = seen + 1\n", names)
    make = lambda: SimpleNamespace(value=0)  # noqa: E731
    report = race(make, [names["body"]] * 2, lambda state: state.value == 2)
    assert report.found
    assert report.replay().value == 1


def test_lists_dicts_and_calls():
    def append(state):
        if len(state) < 1:
            state.append(1)

    assert race(list, [append] * 2, lambda state: len(state) == 1).found

    def put(state):
        if "key" not in state:
            state["key"] = state.get("key", 0) + 1
            state["made"] = state.setdefault("made", 0) + 1

    assert race(dict, [put] * 2, lambda state: state["made"] == 1).found


def test_what_a_method_property_or_generator_does():
    class Cell:
        def __init__(self):
            self._n = 0

        @property
        def n(self):
            return self._n

        @n.setter
        def n(self, value):
            self._n = value

        def add(self):
            self.n = self.n + 1

    def numbers(cell):
        for _ in range(1):
            yield cell.n

    def by_generator(cell):
        for seen in numbers(cell):
            cell.n = seen + 1

    assert race(Cell, [Cell.add] * 2, lambda cell: cell.n == 2).found
    assert race(Cell, [by_generator] * 2, lambda cell: cell.n == 2).found


def test_an_exception_in_a_thread_is_a_finding():
    def take(state):
        if state:
            state.pop()

    report = race(lambda: [1], [take] * 2, lambda state: True)
    assert (report.found, report.kind) == (True, "exception")
    assert isinstance(report.error, IndexError)
    assert "IndexError" in report.explanation
    assert report.replay() == []


def test_sys_exit_ends_a_thread_only():
    report = race(list, [lambda state: sys.exit(1)] * 2, lambda state: state == [])
    assert report.proved


def test_a_deadlock_says_who_waits_for_whom():
    report = EXHIBITS["philosophers"].race(budget=LONG)
    assert [party.name for party in report.cycle] == ["thread 1", "thread 2", "thread 3"]
    assert {party.waits_for for party in report.cycle} == {f"state.forks[{i}]" for i in range(3)}
    assert all(party.holds and party.stack[0].line for party in report.cycle)
    assert "held by thread" in report.explanation
    assert "<svg" in report._repr_html_()


def test_sleep_lets_others_go_first_and_takes_no_time():
    def body(state):
        seen = state.n
        time.sleep(10_000)
        state.n = seen + 1

    report = race(lambda: SimpleNamespace(n=0), [body] * 2, lambda state: state.n == 2)
    assert (report.found, report.preemptions) == (True, 0)


def test_what_threads_print_is_shown_by_replay_only(capsys):
    def body(state):
        print("here")
        state.n = state.n + 1

    report = race(lambda: SimpleNamespace(n=0), [body] * 2, lambda state: state.n == 2)
    assert capsys.readouterr().out == ""
    report.replay()
    assert capsys.readouterr().out == "here\nhere\n"


# ---- primitives ----

HOMES = {"threading": threading, "plait": plait}
QUEUES = {"queue": queue, "plait": plait}


@pytest.mark.parametrize("home", HOMES)
def test_primitives_that_keep_order(home):
    module = HOMES[home]

    class State:
        def __init__(self):
            self.n = 0
            self.semaphore = module.BoundedSemaphore(1)
            self.event, self.barrier = module.Event(), module.Barrier(2)
            self.condition = module.Condition()
            self.is_ready = False

    def by_semaphore(state):
        with state.semaphore:
            state.n = state.n + 1

    assert race(State, [by_semaphore] * 2, lambda s: s.n == 2, budget=LONG).proved

    def sets(state):
        state.n = 1
        state.event.set()

    def waits(state):
        state.event.wait()
        state.n = state.n * 5

    assert race(State, [waits, sets], lambda s: s.n == 5, budget=LONG).proved

    def before(state):
        state.n = 1
        state.barrier.wait()

    def after(state):
        state.barrier.wait()
        state.n = state.n * 5

    assert race(State, [after, before], lambda s: s.n == 5, budget=LONG).proved

    def tells(state):
        with state.condition:
            state.is_ready = True
            state.condition.notify_all()

    def is_told(state):
        with state.condition:
            state.condition.wait_for(lambda: state.is_ready)
            state.n = 7

    assert race(State, [is_told, tells], lambda s: s.n == 7, budget=LONG).proved

    def waits_bare(state):  # the notification may come before the wait
        with state.condition:
            state.condition.wait()

    assert race(State, [waits_bare, tells], lambda s: True, budget=LONG).kind == "deadlock"


@pytest.mark.parametrize("home", QUEUES)
@pytest.mark.parametrize("kind", ["Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"])
def test_queues(home, kind):
    make = getattr(QUEUES[home], kind)

    def setup():
        return SimpleNamespace(queue=make(), got=[])

    def put(state):
        state.queue.put(1)
        state.queue.put(2)

    def get(state):
        state.got.append(state.queue.get() + state.queue.get())

    assert race(setup, [put, get], lambda s: s.got == [3], budget=LONG).proved
    assert race(setup, [get], lambda s: True).kind == "deadlock"

    def get_now(state):
        with contextlib.suppress(queue.Empty):
            state.queue.get_nowait()
            state.got.append(1)

    assert race(setup, [put, get_now], lambda s: s.got == []).found


def test_a_bounded_queue_and_a_time_limit():
    def put(state):
        state.put(1)
        with pytest.raises(queue.Full):
            state.put(2, timeout=100)

    assert race(lambda: plait.Queue(1), [put], lambda state: True, budget=LONG).proved
    lock_of = lambda: SimpleNamespace(lock=plait.Lock(), n=0)  # noqa: E731

    def keeps(state):
        state.lock.acquire()

    def tries(state):
        if not state.lock.acquire(timeout=5):
            state.n = 1

    assert race(lock_of, [keeps, tries], lambda s: s.n == 0, budget=LONG).found


def test_a_reader_writer_lock_lets_readers_in_together():
    class State:
        def __init__(self):
            self.lock, self.inside, self.most = plait.RWLock(), 0, 0

    def read(state):
        with state.lock.read():
            state.inside += 1
            state.most = max(state.most, state.inside)
            state.inside -= 1

    assert race(State, [read] * 2, lambda s: s.most < 2, budget=LONG).found


def test_other_threads_get_the_real_ones():
    made, stop = [], threading.Event()

    def outsider():
        while not stop.is_set():
            made.append(type(threading.Lock()))
            made.append(type(plait.Lock()))
            del made[:-2]

    thread = threading.Thread(target=outsider)
    thread.start()
    try:
        assert EXHIBITS["lost-update"].race("lock", budget=LONG).proved
    finally:
        stop.set()
        thread.join()
    assert made == [type(threading.Lock()), plait.Lock]


# ---- bounds, budgets, and what goes wrong ----


def test_the_budget_ends_the_search_and_it_says_how_far_it_came():
    def body(state):
        for _ in range(20):
            state.n = state.n + 1

    report = race(lambda: SimpleNamespace(n=0), [body] * 3, lambda state: True, budget=0.5)
    assert not report.found
    assert not report.exhausted
    assert f"explored {report.explored} " in report.verdict
    assert "preemption" in report.verdict


def test_a_run_without_end_is_told():
    def spins(state):
        while not state.ready:
            pass

    report = race(lambda: SimpleNamespace(ready=False), [spins], lambda s: True, budget=LONG)
    assert report.endless >= 1
    assert not report.exhausted
    assert "did not end" in report.verdict


def test_a_spinning_thread_lets_others_go_on():
    def spins(state):
        while not state.ready:
            pass

    def frees(state):
        state.ready = True

    report = race(lambda: SimpleNamespace(ready=False), [spins, frees], lambda s: s.ready, budget=2)
    assert not report.found
    assert not report.endless


def test_a_thread_that_blocks_elsewhere_is_told():
    elsewhere = _thread.allocate_lock()
    elsewhere.acquire()
    waits = elsewhere.acquire

    def body(state):
        state.n = state.n + 1
        waits(True)

    report = _race(lambda: SimpleNamespace(n=0), [body], lambda s: True, 60.0, stall=2.0)
    elsewhere.release()
    assert not report.found
    assert not report.proved
    assert "does not come back" in report.verdict
    assert "waits(True)" in report.verdict
    for thread in threading.enumerate():
        if thread.name == "thread 1":
            thread.join(PATIENCE)


def test_a_thread_that_computes_for_ever_is_ended_by_the_budget():
    def body(state):
        n = 0
        while True:
            n += 1

    report = race(list, [body], lambda s: True, budget=0.3)
    assert not report.found
    assert report.explored == 0


def test_threads_that_depend_on_more_than_their_order_are_told():
    rounds = itertools.count()

    def setup():
        return SimpleNamespace(n=0, times=1 + next(rounds) % 3)

    def body(state):
        for _ in range(state.times):
            state.n = state.n + 1

    report = race(setup, [body] * 2, lambda s: True, budget=5)
    assert not report.exhausted
    assert not report.deterministic or report.explored < 10
    assert report.proved is (report.bound >= 0 and report.deterministic)


def test_a_thread_within_is_refused():
    def body(state):
        threading.Thread(target=print).start()

    report = race(list, [body], lambda s: True)
    assert report.kind == "exception"
    assert "give its target as one of `threads`" in str(report.error)


def test_setup_that_waits_for_ever():
    def setup():
        lock = plait.Lock()
        lock.acquire()
        lock.acquire()

    with pytest.raises(RuntimeError, match="would wait for ever"):
        race(setup, [print], lambda s: True)


def _fail(*_):
    raise KeyError("mine")


def test_what_setup_and_invariant_raise_is_raised():
    with pytest.raises(KeyError, match="mine"):
        race(_fail, [print], lambda s: True)
    with pytest.raises(KeyError, match="mine"):
        race(list, [lambda s: s.append(1)] * 2, _fail)


@pytest.mark.parametrize("answer", [None, 1, "yes"])
def test_an_invariant_must_give_a_bool(answer):
    with pytest.raises(TypeError, match="True or False"):
        race(list, [len], lambda s: answer)


@pytest.mark.parametrize("budget", [0, -1, float("nan"), float("inf")])
def test_budgets_that_are_none(budget):
    with pytest.raises(ValueError, match="budget"):
        race(list, [len], bool, budget=budget)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None, [len], bool), "setup"),
        ((list, [len], None), "invariant"),
        ((list, [len, 3], bool), r"threads\[1\]"),
        ((list, len, bool), "sequence"),
    ],
)
def test_what_cannot_be_called(arguments, words):
    with pytest.raises(TypeError, match=words):
        race(*arguments)
    with pytest.raises(ValueError, match="empty"):
        race(list, [], bool)
    with pytest.raises(TypeError, match="budget"):
        race(list, [len], bool, budget="10")


def test_interrupted_it_leaves_nothing():
    rounds = itertools.count()

    def setup():
        if next(rounds) == 5:
            signal.raise_signal(signal.SIGINT)
        return program.setup()

    program = EXHIBITS["bounded-queue"].fixes["notify-all"]
    with pytest.raises(KeyboardInterrupt):
        race(setup, program.threads, program.invariant)


def test_interrupted_in_the_midst_of_a_run():
    main = threading.get_ident()

    def body(state):
        state.n = state.n + 1
        signal.pthread_kill(main, signal.SIGINT)
        while True:
            state.n = state.n + 1

    with pytest.raises(KeyboardInterrupt):
        race(lambda: SimpleNamespace(n=0), [body] * 2, lambda s: True, budget=LONG)


# ---- stepping ----


def test_stepping_as_the_scheduler():
    with EXHIBITS["lost-update"].race().step() as stepper:
        assert stepper.state.value == 0
        assert [view.status for view in stepper.threads] == ["ready", "ready"]
        for thread in (0, 0, 1, 1):
            assert not stepper.finished
            stepper.forward(thread)
        assert stepper.finished
        assert (stepper.state.value, stepper.outcome) == (2, "ok")
        assert [view.status for view in stepper.threads] == ["ended", "ended"]
        with pytest.raises(ValueError, match="no thread can go on"):
            stepper.forward(0)
        for _ in range(3):
            stepper.back()
        assert (stepper.state.value, stepper.outcome, len(stepper.steps)) == (0, None, 1)
        for thread in (1, 1, 0):
            stepper.forward(thread)
        assert (stepper.state.value, stepper.outcome) == (1, "invariant")
        assert "writes counter.value = 1" in str(stepper)
        assert "the invariant does not hold" in stepper._repr_html_()
        assert "the invariant does not hold" in str(stepper)
    with pytest.raises(ValueError, match="closed"):
        stepper.forward(0)


@pytest.mark.parametrize("name", EXHIBITS)
def test_stepping_along_what_was_found(name):
    report = EXHIBITS[name].race(budget=LONG)
    with report.step() as stepper:
        while not stepper.finished:
            stepper.forward()
        assert stepper.outcome == report.kind
        stepper.back()
        assert stepper.outcome is None


def test_a_waiting_thread_cannot_be_chosen():
    def body(lock):
        with lock:
            pass

    report = race(plait.Lock, [body] * 2, lambda s: True, budget=LONG)
    assert report.proved
    with report.step() as stepper:
        stepper.forward(0)
        assert [view.status for view in stepper.threads] == ["ready", "waiting"]
        with pytest.raises(ValueError, match="thread 1 cannot go on now"):
            stepper.forward(1)
        with pytest.raises(ValueError, match="thread 9"):
            stepper.forward(9)
        stepper.back()
        with pytest.raises(ValueError, match="nothing was done"):
            stepper.back()


def test_the_buttons_of_a_notebook():
    pytest.importorskip("ipywidgets", reason="needs ipywidgets: pip install 'plait[notebook]'")
    with EXHIBITS["lost-update"].race().step() as stepper:
        row, page = stepper.widget().children
        *threads, back = row.children
        assert [button.description for button in threads] == ["thread 1", "thread 2"]
        assert back.disabled
        pages = [page.value]
        for turn in itertools.count():  # each thread in its turn: both read, then both write
            ready = [button for button in threads if not button.disabled]
            if not ready:
                break
            ready[turn % len(ready)].click()
            pages.append(page.value)
        assert stepper.outcome == "invariant"
        assert len(set(pages)) == len(pages)
        for earlier in reversed(pages[:-1]):
            back.click()
            assert page.value == earlier
        assert back.disabled


def test_a_stepper_that_is_dropped_ends_its_threads():
    stepper = EXHIBITS["lost-update"].race().step()
    stepper.forward(0)
    del stepper


# ---- those that really happen ----


def test_the_twin_in_rust_loses_updates_or_says_that_it_saw_none():
    twin = races.rust_twin(2, 100_000)
    assert twin.expected == 200_000 == twin.left_in_one_step
    assert 0 < twin.left <= twin.expected
    assert ("were lost" in str(twin)) is (twin.lost > 0)
    assert ("proves nothing" in str(twin)) is (twin.lost == 0)
    assert races.rust_twin(1, 10).lost == 0


@pytest.mark.parametrize("arguments", [(0, 1), (65, 1), (2, 0), (2.0, 1), (True, 1)])
def test_a_twin_that_cannot_be(arguments):
    with pytest.raises(ValueError, match="must be a whole number"):
        races.rust_twin(*arguments)


@pytest.mark.parametrize("parties", [2, 3, 5])
def test_a_deadlock_is_drawn(parties):
    picture = races.deadlock(parties)
    text, svg = str(picture), picture.svg()
    xml.etree.ElementTree.fromstring(svg)
    assert svg == picture._repr_svg_()
    for index in range(1, parties + 1):
        assert f"thread {index} --waits for lock {index % parties + 1}" in text
        assert f">thread {index}<" in svg
        assert f">lock {index}<" in svg
    assert "with locks[" in text  # where
    assert len(picture.to_dict()["parties"]) == parties


def test_a_deadlock_with_oneself_is_drawn():
    lock = plait.RWLock()
    with lock.read(), pytest.raises(plait.errors.DeadlockError) as caught:
        lock.acquire_write()
    picture = races.DeadlockPicture(caught.value)
    assert "waits for RWLock at" in str(picture)
    xml.etree.ElementTree.fromstring(picture.svg())


# ---- the command ----


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "plait.cli", "race", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


def test_the_command_and_an_exhibit():
    done = run("lost-update")
    assert (done.returncode, done.stderr) == (0, "")
    assert "reads counter.value = 0" in done.stdout
    done = run("lost-update", "--fix", "lock", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["proved"] is True


def test_the_example():
    example = Path(__file__).parents[1] / "examples" / "more" / "race.py"
    done = subprocess.run(
        [sys.executable, str(example)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "replayed twice: 2 and 2 sold" in done.stdout
    assert "nothing is left to try" in done.stdout


def test_the_command_and_a_program(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "def setup():\n    return {'n': 0}\n"
        "def add(state):\n    n = state['n']\n    state['n'] = n + 1\n"
        "threads = [add, add]\n"
        "def invariant(state):\n    return state['n'] == 2\n"
    )
    done = run(str(path))
    assert done.returncode == 1
    assert "writes state['n'] = 1" in done.stdout


@pytest.mark.parametrize(
    ("what", "fix", "budget", "words"),
    [
        ("nothing", None, 1, "lost-update"),
        ("lost-update", "prayer", 1, "lock, atomic, own"),
        ("lost-update", None, 0, "budget"),
        ("missing.py", None, 1, "missing.py"),
        ("missing.py", "lock", 1, "classic"),
        ("rust-twin", "lock", 1, "no fixes"),
    ],
)
def test_the_command_asked_wrongly(what, fix, budget, words):
    with pytest.raises(ValueError, match=words):
        answer(what, fix, budget)


def test_the_command_tells_a_mistake_in_a_line():
    done = run("nothing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "lost-update" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_and_files_that_lack_something(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def setup(): pass\nthreads = [3]\n")
    with pytest.raises(ValueError, match="has no invariant"):
        answer(str(path), None, 1)
    path.write_text("def setup(): pass\nthreads = [3]\ninvariant = bool\n")
    with pytest.raises(ValueError, match=r"threads\[0\]"):
        answer(str(path), None, 1)


def test_the_command_lists_what_there_is():
    text, data, code = answer(None, None, 1)
    assert set(data) == {*EXHIBITS, "deadlock", "rust-twin"}
    assert all(name in text for name in data)
    assert code == 0
    for name in ("deadlock", "rust-twin"):
        text, data, code = answer(name, None, 1)
        assert text
        json.dumps(data)
