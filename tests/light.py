"""Functions for pools' workers, in a module that costs little to import: each worker does."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any


def square(n: int) -> int:
    return n * n


def fail(n: int) -> int:
    raise ValueError(f"no {n}")


def fail_at_five(n: int) -> int:
    return fail(n) if n == 5 else n


def raise_timeout() -> None:
    raise TimeoutError("the task's own")


def stop_at_three(n: int) -> int:
    if n == 3:
        raise StopIteration
    return n


def pass_gate(path: str, value: Any = None) -> Any:
    with open(path, "rb", buffering=0) as file:
        file.read(1)
    return value


def note_and_pass_gate(note: str, path: str) -> str:
    with open(note, "a") as file:
        file.write("once ")
    return pass_gate(path, "passed")


def first_waits(item: Any) -> Any:
    return pass_gate(item, "waited") if isinstance(item, str) else item


STATE: Any = None


def set_state(*values: str) -> None:
    global STATE
    STATE = values


def get_state(_: int) -> Any:
    return STATE


def pid(_: int) -> int:
    return os.getpid()


def kill_me(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)


def die_at_five(n: int) -> int:
    if n == 5:
        kill_me()
    return n


def dies_once(item: tuple[int, bytes, str]) -> bytes:
    number, data, folder = item
    if number % 4 == 1 and not os.path.exists(f"{folder}/{number}"):
        Path(f"{folder}/{number}").touch()
        kill_me()
    return bytes(data)


def work(n: int, data: bytes) -> tuple[int, int]:
    end = time.perf_counter() + 0.0005
    while time.perf_counter() < end:
        pass
    return n, len(data)


def length_of_new(count: int) -> int:
    return len(bytearray(count))


def complain() -> None:
    sys.stderr.write("a complaint\n")


def say(n: int) -> None:
    print("word", n)


def say_and_die() -> None:
    print("last words", flush=True)
    kill_me()


def echo(value: Any) -> Any:
    return value


def double(value: Any) -> Any:
    return value * 2


def spoil(value: Any) -> int:
    value[...] = 0
    return int(value.sum())
