"""Serial Execution

Serial execution does one task after the other, strictly in order; each waits for the one
before. There is no overlap, so waits are waited out in full and all cores but one stand idle.
It is also the simplest, needs no locks, and for small amounts of work it is often the fastest:
starting helpers costs time too. Measure it before anything else: it is what the others must
beat.

The checksums below are computed by C and by Rust code that both release the GIL; run in
series that changes nothing.
"""

import zlib

import plait
from plait.lessons.frame import main
from plait.lessons.spans import span


def make_buffers() -> list[bytes]:
    with span("make data", "gil"):
        return [bytes([i]) * 16_000_000 for i in range(6)]


def checksum(buffer: bytes) -> int:
    with span(f"{buffer[0]}", "nogil"):
        return zlib.crc32(buffer)


def with_stdlib(delay: float) -> None:
    for buffer in make_buffers():
        print(f"{checksum(buffer):08x}")


def with_plait(delay: float) -> None:
    buffers = make_buffers()
    sums = list(plait.map(checksum, buffers, how="serial"))
    with span("all, in Rust", "idle", holder="a Rust thread"):
        rust = plait.kernels.crc32(buffers, workers=1)
    for value in sums:
        print(f"{value:08x}")
    print(f"Rust's are the same: {rust == sums}")


if __name__ == "__main__":
    main(with_stdlib, with_plait)
