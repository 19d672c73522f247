"""multiprocessing and concurrent.futures on plait's start method."""

from __future__ import annotations

import concurrent.futures as cf
import multiprocessing
import pickle
from collections.abc import Iterator
from typing import Any

import plait
import pytest
from conftest import PATIENCE


def test_the_start_method_has_a_name(run_script: Any) -> None:
    done = run_script(
        """
        import multiprocessing as mp, plait
        methods = mp.get_all_start_methods()
        plait.install()
        plait.install()
        assert mp.get_all_start_methods() == methods
        mp.set_start_method("plait")
        print(mp.get_start_method(), mp.get_context("plait") is plait.get_context())
        def look(): return mp.get_start_method(), mp.current_process().name
        q = mp.Queue()
        p = mp.Process(target=lambda: q.put(look()))
        p.start()
        print(q.get(timeout=60))
        p.join()
        with mp.Pool(2) as pool:
            print(pool.map(abs, [-1, 2]))
        with mp.Manager() as manager:
            shared = manager.dict()
            p = mp.Process(target=shared.update, kwargs={"a": 1})
            p.start()
            p.join()
            print(dict(shared))
        """
    )
    assert done.stdout.splitlines() == [
        "plait True",
        "('plait', 'Process-1')",
        "[1, 2]",
        "{'a': 1}",
    ]
    assert done.stderr == ""


def test_shared_memory_outlives_the_child_that_used_it() -> None:
    from multiprocessing import shared_memory

    block = shared_memory.SharedMemory(create=True, size=16)
    try:

        def write(name: str) -> None:
            other = shared_memory.SharedMemory(name)
            other.buf[0] = 42
            other.close()

        process = plait.Process(target=write, args=(block.name,))
        process.start()
        process.join()
        assert block.buf[0] == 42
    finally:
        block.close()
        block.unlink()


def test_pools_managers_queues_and_executors_of_the_context() -> None:
    context = plait.get_context()
    with context.Pool(2, initializer=remember, initargs=("hello",)) as pool:
        assert pool.map(recall, range(5)) == ["hello"] * 5
        assert sorted(pool.imap_unordered(abs, [-1, -2, -3])) == [1, 2, 3]
        assert pool.apply_async(divmod, (7, 2)).get(30) == (3, 1)
    with context.Manager() as manager:
        shared = manager.list()
        lock = manager.Lock()
        with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
            for future in [executor.submit(append, shared, lock, i) for i in range(5)]:
                future.result(30)
        assert sorted(shared) == [0, 1, 2, 3, 4]


said = "nothing"


def remember(text: str) -> None:
    global said
    said = text


def recall(_: int) -> str:
    return said


def append(shared: Any, lock: Any, value: int) -> None:
    with lock:
        shared.append(value)


@pytest.mark.parametrize("way", ["zygote", "spawn"])
def test_children_of_children_and_of_daemonic_workers(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_START", way)

    def count(depth: int, daemon: bool) -> int:
        if depth == 0:
            return 0
        process = plait.Process(target=count, args=(depth - 1, daemon), daemon=daemon)
        process.start()
        try:
            return 1 + int(process.result(30))
        finally:
            process.join()

    assert count(3, daemon=False) == 3
    assert count(3, daemon=True) == 3
    with plait.get_context().Pool(2) as pool:  # whose workers are daemonic
        assert pool.starmap(nested_pool, [(1,), (2,)]) == [[1, 2], [2, 4]]


def nested_pool(value: int) -> list[int]:
    with plait.get_context().Pool(2) as pool:
        return pool.map(value.__mul__, [1, 2])


@pytest.mark.parametrize("way", ["zygote", "spawn"])
def test_children_of_all_contexts_and_their_children_under_a_plait_default(
    run_script: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("PLAIT_START", way)
    done = run_script(
        """
        import multiprocessing as mp, plait, sys

        METHODS = ["spawn", "fork", "forkserver", "plait"]

        def started(method, target, *args):
            context = plait.get_context() if method == "plait" else mp.get_context(method)
            p = context.Process(target=target, args=args)
            p.start()
            p.join(60)
            assert p.exitcode == 0, (method, p.exitcode)

        def grandchild(outer, inner, lock):
            with lock:
                print(outer, inner, flush=True)

        def child(outer, lock):
            for inner in METHODS:
                started(inner, grandchild, outer, inner, lock)
            p = mp.Process(target=grandchild, args=(outer, "default", lock))
            p.start()
            p.join(60)
            assert p.exitcode == 0

        if __name__ == "__main__":
            plait.install()
            mp.set_start_method("plait")
            lock = mp.get_context("spawn").Lock()
            for outer in METHODS:
                started(outer, child, outer, lock)
            assert mp.get_start_method() == "plait"
        """,
    )
    methods = ["spawn", "fork", "forkserver", "plait"]
    expected = [f"{a} {b}" for a in methods for b in [*methods, "default"]]
    assert done.stdout.splitlines() == expected, done.stderr


class Loader:
    """What torch's DataLoader does with a `multiprocessing_context`: daemonic workers, an index
    queue for each, one queue of results, an event for the end, results put in order."""

    def __init__(self, data: Any, batch: int, workers: int, multiprocessing_context: Any) -> None:
        self.batches = [range(len(data))[i : i + batch] for i in range(0, len(data), batch)]
        self.results = multiprocessing_context.Queue()
        self.done = multiprocessing_context.Event()
        self.indices: list[Any] = []
        self.workers: list[Any] = []
        for number in range(workers):
            indices = multiprocessing_context.Queue()
            indices.cancel_join_thread()
            worker = multiprocessing_context.Process(
                target=load, args=(data, indices, self.results, self.done, number)
            )
            worker.daemon = True
            worker.start()
            self.indices.append(indices)
            self.workers.append(worker)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self.batches):
            self.indices[number % len(self.workers)].put((number, batch))
        early: dict[int, Any] = {}
        for wanted in range(len(self.batches)):
            while wanted not in early:
                number, value = self.results.get(timeout=PATIENCE)
                early[number] = value
            yield early.pop(wanted)

    def shutdown(self) -> None:
        self.done.set()
        for indices, worker in zip(self.indices, self.workers, strict=True):
            indices.put(None)
            worker.join(PATIENCE)
            assert worker.exitcode == 0
            indices.close()
        self.results.close()
        self.results.join_thread()


def load(data: Any, indices: Any, results: Any, done: Any, number: int) -> None:
    while True:
        task = indices.get(timeout=PATIENCE)
        if task is None:
            assert done.is_set()
            results.cancel_join_thread()
            results.close()
            return
        serial, batch = task
        results.put((serial, [data[i] for i in batch]))


@pytest.mark.parametrize("way", ["zygote", "spawn"])
def test_a_data_loader_with_a_multiprocessing_context(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_START", way)
    for context in (plait.get_context(), installed()):
        loader = Loader([i * i for i in range(10)], 3, 2, multiprocessing_context=context)
        assert list(loader) == [[0, 1, 4], [9, 16, 25], [36, 49, 64], [81]]
        assert list(loader)[-1] == [81]  # a second epoch
        loader.shutdown()


def installed() -> Any:
    plait.install()
    return multiprocessing.get_context("plait")


def test_what_the_context_makes_is_checked_when_it_is_shared() -> None:
    context = plait.get_context()
    for made in (context.Lock(), context.Queue(), context.Value("i")):
        with pytest.raises(RuntimeError, match="inheritance"):
            pickle.dumps(made)


@pytest.mark.parametrize("way", ["zygote", "spawn"])
def test_arrays_values_pipes_and_barriers_reach_children(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAIT_START", way)
    context = plait.get_context()
    array, value = context.Array("i", 3), context.Value("d", 0.5)
    ours, theirs = context.Pipe()
    barrier = context.Barrier(2)

    def work() -> None:
        barrier.wait(PATIENCE)
        array[1] = 7
        with value.get_lock():
            value.value += 1
        theirs.send(theirs.recv() * 2)

    process = plait.Process(target=work)
    process.start()
    barrier.wait(PATIENCE)
    ours.send(21)
    assert ours.poll(PATIENCE)
    assert ours.recv() == 42
    process.join()
    assert (array[:], value.value) == ([0, 7, 0], 1.5)
    for end in (ours, theirs):
        end.close()
