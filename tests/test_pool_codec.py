"""Values on their way to a worker and back: bytes, pickles, shared memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import plait
import pytest
from plait.errors import SerializationError, WorkerDied

LARGE = 100_000  # members of an array that travels by the arena


@pytest.fixture(scope="module")
def pool() -> Iterator[plait.ProcessPoolExecutor]:
    with plait.ProcessPoolExecutor(1) as executor:
        yield executor


def same(value: Any) -> Any:
    return value


def nested(depth: int) -> tuple[Any, ...]:
    value: tuple[Any, ...] = ()
    for _ in range(depth):
        value = (value,)
    return value


SIMPLE: list[Any] = [
    None,
    True,
    False,
    *(0, 1, -1, 127, 128, -128, -129, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**40),
    *(0.0, -1.5, float("inf"), 1e-308),
    *("", "a", "é" * 100, "a\0b", "a" * 8192, "a" * 8193, "日" * 100_000),
    *("\ud800", "x\ud800" * 9000),
    *(b"", b"\0", b"x" * 8192, b"x" * 8193, b"x" * 3_000_000),
    *((), (1,), (1, (2.0, "a", (b"b", None))), tuple("y" * 100 for _ in range(1000))),
    *((b"q" * 9000,) * 5, (b"q" * 9000, 2**70), ("\ud800", b"q" * 9000), nested(16), nested(40)),
    *([1, 2, 3], {"a": 1}, {1, 2}, list(range(100_000)), bytearray(b"x" * 100_000), 1j),
]


@pytest.mark.parametrize("value", SIMPLE, ids=lambda value: f"{type(value).__name__}")
def test_a_value_arrives_as_it_was(pool: plait.ProcessPoolExecutor, value: Any) -> None:
    found = pool.submit(same, value).result(30)
    assert found == value
    assert type(found) is type(value)
    assert list(pool.map(same, [value, value])) == [value, value]


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@pytest.mark.parametrize("value", [Text("a"), Number(7)])
def test_a_subclass_stays_one(pool: plait.ProcessPoolExecutor, value: Any) -> None:
    assert type(pool.submit(same, value).result(30)) is type(value)


def test_not_a_number_and_minus_zero(pool: plait.ProcessPoolExecutor) -> None:
    found = pool.submit(same, (float("nan"), -0.0)).result(30)
    assert str(found) == "(nan, -0.0)"


ARRAYS = [
    np.arange(10),
    np.array([]),
    np.arange(float(LARGE)),
    np.asfortranarray(np.arange(LARGE).reshape(100, -1)),
    np.arange(2 * LARGE)[::2],
    np.arange(LARGE)[::-1],
    np.array(["a", None, 3.0], dtype=object),
    np.zeros(5000, dtype=[("a", "i4"), ("b", "f8")]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.kind}{array.size}")
def test_an_array_arrives_as_it_was(pool: plait.ProcessPoolExecutor, array: Any) -> None:
    found = pool.submit(same, array).result(30)
    assert found.dtype == array.dtype
    assert found.flags.f_contiguous or not array.flags.f_contiguous
    assert (found == array).all()


def flags(array: Any) -> tuple[bool, bool]:
    return array.flags.owndata, array.flags.writeable


def test_large_arrays_are_views_of_shared_memory(pool: plait.ProcessPoolExecutor) -> None:
    array = np.arange(LARGE)
    assert pool.submit(flags, array).result(30) == (False, True)
    assert flags(pool.submit(same, array).result(30)) == (False, True)
    array.flags.writeable = False
    assert pool.submit(flags, array).result(30) == (False, False)
    assert not pool.submit(same, array).result(30).flags.writeable


def overwrite(array: Any) -> int:
    array[:] = -1
    return int(array.sum())


def test_a_worker_has_its_own_copy(pool: plait.ProcessPoolExecutor) -> None:
    array = np.arange(LARGE)
    assert pool.submit(overwrite, array).result(30) == -LARGE
    assert array[7] == 7


def test_members_that_are_the_same_stay_the_same(pool: plait.ProcessPoolExecutor) -> None:
    array = np.arange(LARGE)
    first, second = pool.submit(same, [array, array]).result(30)
    assert first is second
    loop: list[Any] = []
    loop.append(loop)
    found = pool.submit(same, loop).result(30)
    assert found[0] is found


# ---- results that are made in shared memory ------------------------------------------------

kept: list[Any] = []


def handler() -> str | None:
    from numpy._core.multiarray import get_handler_name

    return str(get_handler_name(np.empty(LARGE)))


def make(keep: bool) -> Any:
    array = np.arange(float(LARGE))
    if keep:
        kept.append(array)
    return array


def spoil() -> None:
    for array in kept:
        array[:] = -1


def test_numpy_makes_large_arrays_in_the_arena(pool: plait.ProcessPoolExecutor) -> None:
    pool.submit(make, False).result(30)  # imports NumPy there
    assert pool.submit(handler).result(30) == "plait_arena"


@pytest.mark.parametrize("keep", [False, True])
def test_a_result_does_not_change_later(pool: plait.ProcessPoolExecutor, keep: bool) -> None:
    found = [pool.submit(make, keep).result(30) for _ in range(3)]
    pool.submit(spoil).result(30)
    others = [pool.submit(make, False).result(30) * 2 for _ in range(3)]
    assert all((array == np.arange(LARGE)).all() for array in found)
    assert all((array == 2 * np.arange(LARGE)).all() for array in others)


def overlapping() -> Any:
    array = np.arange(LARGE)
    return array, array[1:], array[: LARGE // 2], b"x" * 20_000


def test_parts_of_one_array_arrive_apart(pool: plait.ProcessPoolExecutor) -> None:
    whole, rest, half, _ = pool.submit(overlapping).result(30)
    whole[:] = -1
    assert (rest == np.arange(1, LARGE)).all()
    half[:] = -2
    assert (whole == -1).all()


def juggle(seed: int) -> bool:
    """Arrays of all sizes come and go, grow and shrink, in several threads."""
    failures = []

    def work(number: int) -> None:
        dice = np.random.default_rng((seed, number))
        held: list[tuple[Any, int]] = []
        for step in range(150):
            array = np.full(int(dice.integers(1, 300_000)), step)
            if step % 3 == 0:
                before = array.size
                array.resize(int(dice.integers(1, 300_000)), refcheck=False)
                failures.extend([step] * bool((array[:before] != step).any()))
                failures.extend([step] * bool(array[before:].any()))
                array[:] = step
            failures.extend([step] * bool(np.zeros(int(dice.integers(1, 200_000))).any()))
            held.append((array, step))
            if len(held) > 5:
                array, value = held.pop(int(dice.integers(0, 5)))
                failures.extend([step] * bool((array != value).any()))

    import contextvars

    context = contextvars.copy_context  # NumPy's allocator is one of a context
    threads = [threading.Thread(target=context().run, args=(work, n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return not failures


def test_arrays_of_a_worker_keep_their_contents(pool: plait.ProcessPoolExecutor) -> None:
    assert all(pool.map(juggle, range(3)))


def test_results_outlive_the_pool() -> None:
    with plait.ProcessPoolExecutor(1) as executor:
        array = executor.submit(same, np.arange(LARGE)).result(30)
    assert (array == np.arange(LARGE)).all()
    array += 1
    assert array[-1] == LARGE


# ---- memory ----------------------------------------------------------------------------------


def shared_memory() -> dict[int, int]:
    """What each file in memory that this process has open uses, in bytes."""
    used = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd:" in os.readlink(f"/proc/self/fd/{name}"):
                stat = os.stat(f"/proc/self/fd/{name}")
                used[stat.st_ino] = stat.st_blocks * 512
        except FileNotFoundError:  # the directory itself
            continue
    return used


def used_since(before: dict[int, int]) -> int:
    return sum(size for file, size in shared_memory().items() if file not in before)


def die(array: Any) -> None:
    os._exit(3)


def test_memory_is_used_again() -> None:
    array, before = np.arange(500_000), shared_memory()
    with plait.ProcessPoolExecutor(2) as executor:
        for _ in range(30):
            futures = [executor.submit(same, array) for _ in range(4)]
            assert all(future.result(30)[-1] == 499_999 for future in futures)
        assert used_since(before) < 40 * array.nbytes


def test_what_a_dead_worker_had_is_used_again() -> None:
    array, before = np.arange(500_000), shared_memory()
    with plait.ProcessPoolExecutor(1) as executor:
        for _ in range(5):
            with pytest.raises(WorkerDied):
                executor.submit(die, array).result(30)
        assert executor.submit(same, array).result(30)[-1] == 499_999
        assert used_since(before) < 4 * array.nbytes


@pytest.mark.parametrize("times", [1, 3])
def test_no_memory_is_an_error_of_one_task(
    pool: plait.ProcessPoolExecutor, tmp_path: Any, times: int
) -> None:
    path = tmp_path / "sparse"  # takes no memory, unless it is copied
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with path.open("wb") as file:
        os.truncate(file.fileno(), times * memory)
    huge = np.asarray(np.memmap(path, np.uint8, "r"))
    before = shared_memory()
    with pytest.raises(MemoryError, match="no memory for the arena to grow by"):
        pool.submit(len, huge).result(30)
    assert shared_memory() == before
    assert pool.submit(len, np.arange(LARGE)).result(30) == LARGE


def test_a_forked_child_does_not_write_to_its_parents_results(
    run_script: Callable[..., Any],
) -> None:
    run_script(
        """
        import os, warnings
        import numpy as np, plait

        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads

        def fork_and_overwrite(n):
            array = np.arange(n)
            pid = os.fork()
            if pid == 0:
                array[:] = -1
                array.resize(2 * n, refcheck=False)
                same = np.arange(n) - 1
                del array, same
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            return array

        with plait.ProcessPoolExecutor(1) as executor:
            for _ in range(2):
                array = executor.submit(fork_and_overwrite, 100_000).result(30)
                assert array[7] == 7, array
            pid = os.fork()
            if pid == 0:
                array[:] = -1
                del array
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert array[7] == 7, array
        """
    )


# ---- what is pickled by value, or not at all -------------------------------------------------


def test_functions_by_value_with_arrays(pool: plait.ProcessPoolExecutor) -> None:
    array = np.arange(LARGE)

    class Box:
        def __init__(self, content: Any) -> None:
            self.content = content

    assert pool.submit(lambda: int(array.sum())).result(30) == array.sum()
    found = pool.submit(lambda box: box.content.sum(), Box(array)).result(30)
    assert found == array.sum()


def test_definitions_of_main_with_arrays(run_script: Callable[..., Any]) -> None:
    run_script(
        """
        import numpy as np, plait

        class Box:
            def __init__(self, content):
                self.content = content

        def double(box):
            assert type(box) is Box
            return Box(box.content * 2)

        with plait.ProcessPoolExecutor(1) as executor:
            for _ in range(3):
                box = executor.submit(double, Box(np.arange(100_000))).result(30)
                assert type(box) is Box and box.content[-1] == 199_998
            assert executor.submit(len, "__main__").result(30) == 8
            assert executor.submit(len, ["__main__"]).result(30) == 1
        """
    )


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("not today")


class Spoiled:
    def __setstate__(self, state: Any) -> None:
        raise ValueError("spoiled on the way")


def spoiled() -> Spoiled:
    value = Spoiled()
    value.content = np.arange(LARGE)  # type: ignore[attr-defined]
    return value


def test_what_cannot_be_pickled_is_named(pool: plait.ProcessPoolExecutor) -> None:
    with pytest.raises(SerializationError, match=r"args\[0\]\['k'\]\[1\].*not today") as caught:
        pool.submit(same, {"k": [np.arange(LARGE), Refuses()]}).result(30)
    assert caught.value.path == "args[0]['k'][1]"
    assert pool.submit(same, 1).result(30) == 1


def make_refuses() -> Any:
    return [np.arange(LARGE), Refuses()]


def test_a_result_that_cannot_be_pickled_is_named(pool: plait.ProcessPoolExecutor) -> None:
    with pytest.raises(SerializationError, match=r"result\[1\].*not today"):
        pool.submit(make_refuses).result(30)
    assert pool.submit(same, 1).result(30) == 1


def test_what_is_of_this_process_is_named_and_not_what_it_is_made_of(
    pool: plait.ProcessPoolExecutor,
) -> None:
    own = plait.Process(target=int), plait.Thread(), threading.Thread(), pool
    for value in own:
        with pytest.raises(SerializationError, match="it belongs to this process") as caught:
            pool.submit(same, [value]).result(30)
        assert caught.value.path == "args[0][0]"
    context = plait.get_context()
    for shared in (context.Lock(), context.Queue(), context.Value("i")):
        with pytest.raises(SerializationError, match=r"through inheritance.*initargs") as caught:
            pool.submit(same, shared).result(30)
        assert caught.value.path == "args[0]"


def test_an_error_in_unpickling_is_the_tasks(pool: plait.ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="spoiled on the way"):
        pool.submit(same, spoiled()).result(30)
    assert pool.submit(same, 1).result(30) == 1


def test_an_interrupt_is_not_an_error_in_pickling(pool: plait.ProcessPoolExecutor) -> None:
    class Interrupts:
        def __reduce__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.submit(same, Interrupts()).result(30)
    assert pool.submit(same, 1).result(30) == 1


def test_workers_do_not_share_what_a_function_brings(tmp_path: Any) -> None:
    array, meeting = np.zeros(1_000_000), str(tmp_path / "meeting")
    os.mkfifo(meeting)

    def count(mode: str) -> float:
        open(meeting, mode).close()  # waits for the other worker
        array[:] += 1
        return float(array[-1])

    with plait.ProcessPoolExecutor(2) as executor:
        for number in (1, 2, 3):
            futures = [executor.submit(count, mode) for mode in ("rb", "wb")]
            assert [future.result(30) for future in futures] == [number, number]
    assert array[0] == 0


def test_arguments_behind_one_that_failed_are_returned() -> None:
    array, before = np.arange(500_000), shared_memory()
    with plait.ProcessPoolExecutor(1) as executor:
        for _ in range(10):
            with pytest.raises(ValueError, match="spoiled on the way"):
                executor.submit(same, spoiled(), array=array).result(30)
        assert used_since(before) < 5 * array.nbytes


def first_fails(array: Any, path: str) -> Any:
    """Changes its argument, and the first time ends its worker."""
    total = int(array.sum())
    array[:] = 0
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return total
    os._exit(1)


def test_a_retry_gets_the_argument_as_it_was(tmp_path: Any) -> None:
    array = np.arange(LARGE)
    with plait.ProcessPoolExecutor(1) as executor:
        again = executor.options(retries=1)
        assert again.submit(first_fails, array, str(tmp_path / "ran")).result(30) == array.sum()
