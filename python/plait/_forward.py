"""Output of children for parents whose sys.stdout has no descriptor: Jupyter, StringIO.

The child writes to a pipe; a thread of the parent reads it and writes to the object that was
current at start(). `drain` empties the pipe at once, so that join() returns after the output.
"""

from __future__ import annotations

import codecs
import contextvars
import os
import select
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Forwarder"]

_PIPE = 1 << 16  # bytes in a full pipe


class Forwarder:
    """Copies a pipe to a text stream until the pipe's last writer is gone."""

    def __init__(self, fd: int, stream: Any) -> None:
        self._fd = fd
        self._ended = False
        self._stream = stream
        self._lock = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        os.set_blocking(fd, False)
        # It tells Jupyter which cell the output belongs to: that of start(), not that of join().
        self._context = contextvars.copy_context()
        threading.Thread(target=self._follow, name="plait-output", daemon=True).start()

    def _follow(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self._ended:
            poll.poll()
            self.drain()

    def drain(self) -> None:
        """Writes what is in the pipe now: no more than it can hold, since a process that the
        child left behind may fill it again and again."""
        left = _PIPE
        with self._lock:
            while not self._ended and left > 0:
                try:
                    data = os.read(self._fd, left)
                except BlockingIOError:
                    return
                left -= len(data)
                self._context.run(self._write, self._decoder.decode(data, final=not data))
                if not data:
                    os.close(self._fd)
                    self._ended = True

    def _write(self, text: str) -> None:
        try:
            if text:
                self._stream.write(text)
                self._stream.flush()
        except Exception:
            # Closed since, or broken: the child must not be held up by it.
            self._stream = open(os.devnull, "w")  # noqa: SIM115  (kept until the pipe ends)
