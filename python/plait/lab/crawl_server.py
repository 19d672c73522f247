"""The crawl's server: a script that reads its pages from standard input, as one line of JSON.

It prints its port, and serves until standard input ends.
Each page has a latency of its own, seeded by its number, so that every client meets the same.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

MEAN_LATENCY_S, LONGEST_S = 0.004, 0.02


def latency(number: int) -> float:
    """Seconds until page ``number`` is answered, each time the same."""
    return min(random.Random(number).expovariate(1 / MEAN_LATENCY_S), LONGEST_S)


async def serve(pages: list[bytes]) -> None:
    """Serve until standard input ends."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            path = request.split(None, 2)[1].decode()
            known = path[1:].isdecimal() and int(path[1:]) < len(pages)
            status, body = ("200 OK", pages[int(path[1:])]) if known else ("404 Not Found", b"")
            if known:
                await asyncio.sleep(latency(int(path[1:])))
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            )
            writer.write(body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that was stopped
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve([page.encode() for page in json.loads(sys.stdin.readline())]))
