"""Output of children where sys.stdout has no descriptor: whose it is."""

from __future__ import annotations

import contextvars
import os

import pytest
from plait import _forward

cell = contextvars.ContextVar("cell")


class Stream:
    """Notes in which context it is written to, as Jupyter's streams do."""

    def __init__(self):
        self.written = []

    def write(self, text):
        self.written.append((cell.get(), text))

    def flush(self):
        pass


@pytest.mark.skipif(os.name != "posix", reason="pipes of this kind are POSIX's")
def test_what_a_join_hands_on_is_of_the_context_of_the_start(monkeypatch):
    monkeypatch.setattr(_forward.threading.Thread, "start", lambda thread: None)
    source, sink = os.pipe()
    stream = Stream()
    cell.set("that starts")
    forwarder = _forward.Forwarder(source, stream)
    os.write(sink, b"text")
    os.close(sink)
    cell.set("that joins")
    forwarder.drain()
    assert stream.written == [("that starts", "text")]
