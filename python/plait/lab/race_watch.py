"""Has the interpreter tell a race's threads of each instruction of the program, before it is done.

Up to Python 3.11 by a trace function in each thread. Since 3.12 by `sys.monitoring`: opcode
tracing is built upon it there, tells nothing of the first call of a function (3.13), and crashes
the interpreter when one thread turns it on while another is inside such a function (3.12). Here
functions are prepared while none of the race's threads runs. One that was not known before is
prepared when a run comes to it, and that run begins anew (`Run.is_blind`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

__all__ = ["Watch", "watch"]

Follow = Callable[[FrameType, int], None]
Refuse = Callable[[CodeType], None]


class Watch:
    """Tells threads of their instructions, from `open` to the last `close`."""

    def __init__(self) -> None:
        self._users = 0
        self._tool = 0
        self._lock = threading.Lock()
        self._codes: set[CodeType] = set()
        # For each thread that is told: what to call before an instruction, and whether a
        # function has to be prepared (it raises, then).
        self._told: dict[int, tuple[Follow, Callable[[CodeType], bool], Refuse]] = {}
        self._monitoring: Any = getattr(sys, "monitoring", None)

    def open(self) -> None:
        """Begin; each call needs its `close`."""
        with self._lock:
            self._users += 1
            if self._users == 1 and self._monitoring is not None:
                self._begin()

    def _begin(self) -> None:
        of = self._monitoring
        free = [tool for tool in (4, 3, 2, 1, 5, 0) if of.get_tool(tool) is None]
        if not free:
            self._users -= 1
            raise RuntimeError("all of sys.monitoring's tools are in use: race() needs one of them")
        self._tool = free[0]
        of.use_tool_id(self._tool, "plait.lab.race")
        of.register_callback(self._tool, of.events.INSTRUCTION, self._on_instruction)
        of.register_callback(self._tool, of.events.PY_START, self._on_start)
        of.set_events(self._tool, of.events.PY_START)

    def close(self) -> None:
        """End, if nobody else needs it."""
        with self._lock:
            self._users -= 1
            of = self._monitoring
            if self._users or of is None:
                return
            of.set_events(self._tool, 0)
            for code in self._codes:
                of.set_local_events(self._tool, code, 0)
            self._codes.clear()
            for event in (of.events.INSTRUCTION, of.events.PY_START):
                of.register_callback(self._tool, event, None)
            of.free_tool_id(self._tool)

    def prepare(self, codes: Iterable[CodeType]) -> None:
        """From now on threads are told of these functions' instructions."""
        for code in codes:
            if code not in self._codes and self._monitoring is not None:
                self._codes.add(code)
                events = self._monitoring.events.INSTRUCTION
                self._monitoring.set_local_events(self._tool, code, events)

    def tell(self, follow: Follow, is_followed: Callable[[CodeType], bool], refuse: Refuse) -> None:
        """Tell the calling thread, until `let`.

        Args:
            follow: called with the frame and the offset before each instruction.
            is_followed: whether to, in a function.
            refuse: called with a function that had to be prepared; raises.
        """
        if self._monitoring is not None:
            self._told[threading.get_ident()] = (follow, is_followed, refuse)
            return

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if not is_followed(frame.f_code):
                return None
            frame.f_trace_lines = False
            frame.f_trace_opcodes = True
            return trace_inside

        def trace_inside(frame: FrameType, event: str, argument: Any) -> Any:
            follow(frame, frame.f_lasti if event == "opcode" else -1)
            # What the locals were before this call is put back after it, variables that closures
            # share among them, unless they are asked for once more.
            _ = frame.f_locals
            return trace_inside

        sys.settrace(trace)

    def let(self) -> None:
        """Tell the calling thread no longer."""
        if self._monitoring is None:
            sys.settrace(None)
        else:
            self._told.pop(threading.get_ident(), None)

    def _on_instruction(self, code: CodeType, offset: int) -> None:
        told = self._told.get(threading.get_ident())
        if told is not None:
            told[0](sys._getframe(1), offset)

    def _on_start(self, code: CodeType, offset: int) -> None:
        if code in self._codes:
            return
        told = self._told.get(threading.get_ident())
        if told is not None and told[1](code):
            told[2](code)


watch = Watch()
