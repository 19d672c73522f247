"""What children had to import: they tell the zygote by a pipe, as they end."""

from __future__ import annotations

import contextlib
import os
import select
import sys

__all__ = ["learning"]


class _Learning:
    """What children had to import: they tell the zygote by a pipe, as they end."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None
        self._known: set[str] = set()

    def switch(self, on: bool) -> None:
        if on and self._pipe is None:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        elif not on and self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
            self._pipe = None

    def heard(self) -> list[str]:
        """In the zygote: the names that are new."""
        names: list[str] = []
        if self._pipe is not None:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(self._pipe[0], 1 << 16):
                    names += dict.fromkeys(data.decode().split())
        new = [name for name in names if name not in self._known and name not in sys.modules]
        self._known.update(new)
        return new

    def begin(self) -> None:
        """In a child that is about to run."""
        if self._pipe is not None:
            self._known = set(sys.modules)

    def tell(self) -> None:
        """In a child that has run: writes what came, as long as that is not torn apart."""
        if self._pipe is None:
            return
        text = ""
        for name, module in list(sys.modules.items()):
            spec = getattr(module, "__spec__", None)
            if name in self._known or spec is None or spec.name != name or not name.isascii():
                continue
            if len(text) + len(name) >= select.PIPE_BUF:
                break
            text += name + "\n"
        if text:
            with contextlib.suppress(OSError):  # full, or the zygote is gone
                os.write(self._pipe[1], text.encode())


learning = _Learning()
