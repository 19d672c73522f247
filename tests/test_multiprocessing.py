"""multiprocessing and concurrent.futures on plait's start method."""

from __future__ import annotations

from typing import Any

import plait


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
        print(q.get(timeout=30))
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


def test_children_of_other_contexts_work_under_a_plait_default(run_script: Any) -> None:
    done = run_script(
        """
        import multiprocessing as mp, plait

        def grandchild(): pass

        def child():
            p = mp.Process(target=grandchild)
            p.start()
            p.join()
            assert p.exitcode == 0

        if __name__ == "__main__":
            plait.install()
            mp.set_start_method("plait")
            for method in ("spawn", "forkserver"):
                p = mp.get_context(method).Process(target=child)
                p.start()
                p.join()
                print(method, p.exitcode)
        """
    )
    assert done.stdout.splitlines() == ["spawn 0", "forkserver 0"], done.stderr


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
