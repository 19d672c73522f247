"""Which address of a host is taken: plait.aio.open_connection's happy eyeballs."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket

import pytest
from plait import _eyeballs, aio
from plait._eyeballs import first_to_answer, interleaved

FOUR, SIX = socket.AF_INET, socket.AF_INET6


def run(coro):
    return asyncio.run(asyncio.wait_for(coro, 40))


def test_families_take_turns():
    addresses = [(SIX, ("a",)), (SIX, ("b",)), (SIX, ("c",)), (FOUR, ("d",)), (FOUR, ("e",))]

    def order(first):
        return "".join(address[0] for _, address in interleaved(addresses, first))

    assert (order(1), order(2), order(9)) == ("adbec", "abdce", "abcde")
    assert interleaved([]) == []


class Attempts:
    """Attempts that end when the test says so."""

    def __init__(self, count):
        self.begun, self.cancelled, self.discarded = [], [], []
        self.ends = [asyncio.get_running_loop().create_future() for _ in range(count)]
        self.arrivals = asyncio.Queue()

    async def attempt(self, number):
        self.begun.append(number)
        self.arrivals.put_nowait(number)
        try:
            return await asyncio.shield(self.ends[number])
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise

    def race(self, delay):
        attempts = [lambda n=n: self.attempt(n) for n in range(len(self.ends))]
        return asyncio.create_task(first_to_answer(attempts, delay, self.discarded.append))


def test_a_silent_address_holds_nobody_up():
    async def main():
        several = Attempts(4)
        race = several.race(0.001)
        assert [await several.arrivals.get() for _ in range(4)] == [0, 1, 2, 3]
        several.ends[2].set_result("two")
        assert await race == ("two", [])
        assert sorted(several.cancelled) == [0, 1, 3]

    run(main())


@pytest.mark.parametrize("delay", [None, 3600])
def test_the_next_follows_a_failure_at_once(delay):
    async def main():
        several = Attempts(3)
        race, failure = several.race(delay), OSError(errno.ENETUNREACH, "no way")
        assert await several.arrivals.get() == 0
        several.ends[0].set_exception(failure)
        assert await several.arrivals.get() == 1
        assert several.begun == [0, 1]
        several.ends[1].set_result("one")
        assert await race == ("one", [failure])
        assert several.begun == [0, 1]

    run(main())


def test_when_all_fail():
    async def main():
        several = Attempts(2)
        race = several.race(0.001)
        for _ in range(2):
            await several.arrivals.get()
        for number in (1, 0):
            several.ends[number].set_exception(OSError(number, "no"))
        value, errors = await race
        assert value is None
        assert sorted(error.errno for error in errors) == [0, 1]

    run(main())


def test_of_two_at_the_same_moment_one_is_given_back():
    async def main():
        several = Attempts(2)
        race = several.race(0.001)
        for _ in range(2):
            await several.arrivals.get()
        for number in range(2):
            several.ends[number].set_result(number)
        winner, _ = await race
        await asyncio.sleep(0)
        assert [winner, *several.discarded] in ([0, 1], [1, 0])

    run(main())


def test_a_race_can_be_cancelled():
    async def main():
        several = Attempts(3)
        race = several.race(0.001)
        for _ in range(3):
            await several.arrivals.get()
        race.cancel()
        with pytest.raises(asyncio.CancelledError):
            await race
        assert sorted(several.cancelled) == [0, 1, 2]

    run(main())


def test_other_errors_are_raised():
    async def main():
        several = Attempts(2)
        race = several.race(0.001)
        for _ in range(2):
            await several.arrivals.get()
        several.ends[0].set_exception(LookupError("mine"))
        with pytest.raises(LookupError, match="mine"):
            await race
        assert several.cancelled == [1]

    run(main())


def test_of_a_hosts_addresses_the_one_that_answers_is_taken(monkeypatch):
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        # A socket whose queue is full answers nobody.
        silent = socket.socket()
        silent.bind(("127.0.0.1", 0))
        closed = silent.getsockname()[1]
        async with await aio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]

            async def resolve(host, port_, family, flags):
                assert (host, port_) == ("host.example", 80)
                return [(FOUR, ("127.0.0.1", closed)), (FOUR, ("127.0.0.1", port))]

            monkeypatch.setattr("plait._core.resolve_host", resolve)
            reader, writer = await aio.open_connection("host.example", 80)
            assert writer.get_extra_info("peername") == ("127.0.0.1", port)
            writer.write(b"x\n")
            assert await reader.read() == b"x\n"
            writer.close()
            await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await aio.open_connection("host.example", 80)
        silent.close()

    run(main())
    gc.collect()


def test_a_delay_that_makes_no_sense():
    with pytest.raises(ValueError, match="happy_eyeballs_delay"):
        run(aio.open_connection("127.0.0.1", 1, happy_eyeballs_delay=-1))
    assert _eyeballs.DELAY == 0.25
