"""From the tapes of a trace's processes (see src/trace/tape.rs) to a timeline.

The sampler's spans say what each thread was at; what Python's frames told (`plait._looks`), the
waits that plait's locks noted, and names of threads, processes and tasks are put to them here.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from plait import _core, _tracing
from plait.lessons.spans import State

from .timeline import STATES, Arrow, Lane, Span, Timeline

__all__ = ["Reading", "read_tapes"]

_STATES: tuple[State, ...] = tuple(STATES)
_PROCESSOR = 8  # the sampler's own: ready, but without a processor
_NO_STATE = 255
_KINDS = [
    *("Lock", "RLock", "Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"),
    *("RWLock", "Queue", "result"),
]
_NAMES = {
    "gil": "computes",
    "nogil": "computes",
    "wait_gil": "the GIL",
    "wait_lock": "a lock",
    "wait_io": "input or output",
    "sleep": "sleep",
    "idle": "idle",
    "unknown": "not decided",
}


class Reading(NamedTuple):
    """What tapes hold.

    Attributes:
        timeline: lanes, spans and arrows.
        dropped: how many records were lost as a tape was full.
        processes: how many processes wrote one.
    """

    timeline: Timeline
    dropped: int
    processes: int


class _Piece(NamedTuple):
    """Of a lane, in nanoseconds."""

    name: str
    began: int
    ended: int
    state: State
    holder: str | None = None


class _Tape:
    """One process's records, by kind and thread."""

    def __init__(self, pid: int, records: list[tuple[int, ...]]) -> None:
        self.pid = pid
        self.spans: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.looks: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.locks: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.steps: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.pauses: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.submits: list[tuple[int, ...]] = []
        self.starts: list[tuple[int, ...]] = []
        self.ends: dict[tuple[int, int], int] = {}  # of work: its thread, its begin -> its end
        self.workers: dict[int, bool] = {}  # tid -> is a thread of a Rust runtime
        self.system_names: dict[int, str] = {}
        self.idents: dict[int, tuple[int, int]] = {}  # tid -> its ident, its name's number
        self.tasks: dict[int, tuple[int, int]] = {}  # number -> its address, its name's number
        self.children: dict[int, int] = {}
        self.own: set[int] = set()
        parts: dict[int, dict[int, bytes]] = defaultdict(dict)
        t = _tracing
        lists = {t.SUBMIT: self.submits, t.START: self.starts}
        by_tid = {t.SPAN: self.spans, t.LOOK: self.looks, t.LOCK: self.locks}
        by_task = {t.STEP: self.steps, t.PAUSE: self.pauses}
        for record in records:
            kind, began, ended, tid, state, a, b = record
            if kind in by_tid:
                by_tid[kind][tid].append(record)
            elif kind in by_task:
                by_task[kind][a].append(record)
            elif kind in lists:
                lists[kind].append(record)
            elif kind == t.WORK:
                self.ends[tid, began] = ended
            elif kind == t.NAME:
                parts[a][state] = b"".join(word.to_bytes(8, "little") for word in (began, ended, b))
            elif kind == t.THREAD:
                letters = a.to_bytes(8, "little") + b.to_bytes(8, "little")
                self.system_names[tid] = letters.rstrip(b"\0").decode("utf-8", "replace")
                self.workers[tid] = bool(state)
            elif kind == t.IDENT:
                self.idents[tid] = a, b
            elif kind == t.TASK:
                self.tasks[a] = ended, b
            elif kind == t.CHILD:
                self.children[a] = b
            elif kind == t.OWN:
                self.own.add(tid)
        self.names = {
            number: b"".join(part for _, part in sorted(some.items()))
            .rstrip(b"\0")
            .decode("utf-8", "replace")
            for number, some in parts.items()
        }

    def name(self, number: int) -> str | None:
        return self.names.get(number)

    def thread_name(self, tid: int) -> str:
        ident = self.idents.get(tid)
        found = self.name(ident[1]) if ident is not None else None
        return found or self.system_names.get(tid) or f"{tid}"

    def party(self, word: int) -> str | None:
        """The name of a thread or task, as plait's locks know them (src/sync/party.rs)."""
        if word & 7 == 2:
            for tid, (ident, _) in self.idents.items():
                if ident & ~7 == word & ~7:
                    return self.thread_name(tid)
        elif word and word & 7 == 0:
            for address, name in self.tasks.values():
                if address == word:
                    return self.name(name)
        return None


def read_tapes(folder: Path, began: int, ended: int) -> Reading:
    """Read all tapes of a folder.

    Args:
        folder: where they are; one may still be written to.
        began: when the trace did, in nanoseconds of `time.monotonic_ns`; it is the timeline's 0.
        ended: when it did.
    """
    tapes: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    dropped = 0
    for file in sorted(folder.glob("*.tape")):
        read = _core.read_tape(file)
        if read is not None:
            pid, _, _, lost, records = read
            tapes[pid] += records
            dropped += lost
    all_tapes = [_Tape(pid, records) for pid, records in tapes.items()]
    children = {pid: tape.name(name) for tape in all_tapes for pid, name in tape.children.items()}
    lanes: list[tuple[int, Lane]] = []
    spans: list[Span] = []
    for tape in all_tapes:
        for lane, pieces in _lanes(tape, children.get(tape.pid)):
            first = ended
            for name, start, end, state, holder in pieces:
                start, end = max(start, began), min(end, ended)
                if start < end:
                    first = min(first, start)
                    times = (start - began) / 1e9, (end - began) / 1e9
                    spans.append(Span(name, lane.id, *times, state, holder))
            if first < ended:
                lanes.append((first, lane))
    spans.sort(key=lambda span: (span.start_s, span.end_s))
    # A process's lanes are together, by their start; its main thread is first.
    firsts: dict[int, int] = {}
    for first, lane in lanes:
        firsts[lane.pid] = min(first, firsts.get(lane.pid, first))
    order = {"process": 0, "coroutine": 2}
    lanes.sort(key=lambda one: (firsts[one[1].pid], one[1].pid, order.get(one[1].kind, 1), one[0]))
    known = {lane.id for _, lane in lanes}
    arrows = [
        arrow
        for arrow in _arrows(all_tapes, began, ended)
        if arrow.lane in known and arrow.to_lane in known
    ]
    timeline = Timeline(tuple(lane for _, lane in lanes), tuple(spans), tuple(arrows))
    return Reading(timeline, dropped, len(tapes))


def _lanes(tape: _Tape, name: str | None) -> Iterator[tuple[Lane, Iterable[_Piece]]]:
    pieces_of: dict[int, list[_Piece]] = {}
    for tid in tape.spans:
        if tid in tape.own:
            continue
        pieces = pieces_of[tid] = list(_thread(tape, tid))
        if tid == tape.pid:
            kind, called = "process", name or "MainProcess"
        else:
            called = tape.thread_name(tid)
            runtimes = (k for k in ("rayon", "tokio") if called.startswith(f"plait-{k}"))
            kind = next(runtimes, "thread")
        yield Lane(f"{tape.pid}.{tid}", kind, called, tape.pid, tid), pieces
    for number, (address, given) in tape.tasks.items():
        steps = tape.steps.get(number, [])
        pauses = tape.pauses.get(number, [])
        if not steps and not pauses:
            continue
        tid = (steps or pauses)[0][3]
        lane = Lane(
            f"{tape.pid}.task{number}", "coroutine", tape.name(given) or "task", tape.pid, tid
        )
        yield lane, _task(tape, address, steps, pauses, pieces_of)


def _task(
    tape: _Tape,
    address: int,
    steps: list[tuple[int, ...]],
    pauses: list[tuple[int, ...]],
    threads: dict[int, list[_Piece]],
) -> Iterator[_Piece]:
    """A task runs as its thread does; in between it waits for what it said."""
    for _, began, ended, tid, _, _, _ in sorted(steps):
        pieces = threads.get(tid, [])
        at = bisect.bisect_left(pieces, began, key=lambda piece: piece.ended)
        inside = [piece for piece in pieces[at : at + 200] if piece.began < ended]
        if ended - began < 2_000_000 or not inside:
            # Shorter than what a sampler sees: it ran, and with a GIL, that needs it.
            running = [piece for piece in inside if piece.state in ("gil", "nogil")]
            state: State = running[0].state if running else "gil"
            name = running[0].name if running else "step"
            yield _Piece(name, began, ended, state)
            continue
        for piece in inside:
            start, end = max(piece.began, began), min(piece.ended, ended)
            if start < end:
                yield piece._replace(began=start, ended=end)
    waits = [record for record in tape.locks.get(0, []) if record[5] == address]
    for _, began, ended, _, waited, _, b in pauses:
        name = tape.name(b & 0xFFFFFFFF) or "await"
        piece = _Piece(name, began, ended, _STATES[waited], tape.name(b >> 32))
        yield _with_lock(tape, piece, waits)


def _thread(tape: _Tape, tid: int) -> Iterator[_Piece]:
    looks = sorted(tape.looks.get(tid, []), key=lambda record: record[1])
    times = [record[1] for record in looks]
    waits = tape.locks.get(tid, [])
    is_python = tid in tape.idents
    for began, ended, number, detail in _joined(sorted(tape.spans[tid], key=lambda r: r[1])):
        if number == _PROCESSOR:
            yield _Piece("waits for a processor", began, ended, "idle")
            continue
        state = _STATES[number]
        last = bisect.bisect_right(times, ended) - 1
        look = looks[last] if last >= 0 else None
        if state in ("gil", "nogil"):
            yield from _running(tape, looks, times, began, ended, state)
        elif state == "wait_gil":
            holder = tape.thread_name(detail) if detail else None
            yield _Piece(_NAMES[state], began, ended, state, holder)
        elif not is_python and (tape.workers.get(tid) or state == "wait_lock"):
            # A thread that Python knows nothing of, in a library: it waits for work.
            yield _Piece("waits for work", began, ended, "idle")
        elif look is not None and state in ("wait_lock", "wait_io", "idle"):
            _, _, holder_number, _, told, doing, wait = look
            if told != _NO_STATE:
                state = _STATES[told]
            name = tape.name(wait) or tape.name(doing) or _NAMES[state]
            piece = _Piece(name, began, ended, state, tape.name(holder_number))
            yield _with_lock(tape, piece, waits)
        elif look is not None and state == "sleep":
            yield _Piece(tape.name(look[5]) or _NAMES[state], began, ended, state)
        else:
            yield _with_lock(tape, _Piece(_NAMES[state], began, ended, state), waits)


def _joined(records: list[tuple[int, ...]]) -> Iterator[tuple[int, int, int, int]]:
    """Joins what the sampler writes in parts, as a span goes on."""
    last: tuple[int, int, int, int] | None = None
    for _, began, ended, _, state, detail, _ in records:
        if last is not None and last[2:] == (state, detail) and began - last[1] < 1000:
            last = last[0], ended, state, detail
            continue
        if last is not None:
            yield last
        last = began, ended, state, detail
    if last is not None:
        yield last


def _running(
    tape: _Tape, looks: list[Any], times: list[int], began: int, ended: int, state: State
) -> Iterator[_Piece]:
    """Cut where the program was seen in another function."""
    name = _NAMES[state]
    at = bisect.bisect_right(times, began)
    if at > 0 or looks:
        name = tape.name(looks[max(at - 1, 0)][5]) or name
    while at < len(looks) and times[at] < ended:
        following = tape.name(looks[at][5]) or name
        if following != name:
            if times[at] > began:
                yield _Piece(name, began, times[at], state)
            name, began = following, max(times[at], began)
        at += 1
    yield _Piece(name, began, ended, state)


def _with_lock(tape: _Tape, piece: _Piece, waits: list[tuple[int, ...]]) -> _Piece:
    """What plait's own lock noted of this wait, if it was one."""
    if piece.state not in ("wait_lock", "idle") or not waits:
        return piece
    length = piece.ended - piece.began
    for _, began, ended, tid, kind, a, b in waits:
        overlap = min(ended, piece.ended) - max(began, piece.began)
        if overlap * 2 > length:
            name = _KINDS[kind - 1] if 0 < kind <= len(_KINDS) else "lock"
            if name == "result":
                return piece._replace(name="waits for a result", state="idle")
            name = f"{name} at {a:#x}" if tid else name
            state: State = "wait_lock" if piece.state == "wait_lock" or b else piece.state
            return piece._replace(name=name, state=state, holder=tape.party(b) or piece.holder)
    return piece


def _arrows(tapes: list[_Tape], began: int, ended: int) -> Iterator[Arrow]:
    submits = {record[5]: (tape, record) for tape in tapes for record in tape.submits}
    found = []
    for tape in tapes:
        for _, at, _, tid, _, flow, name in tape.starts:
            if flow not in submits:
                continue
            source, record = submits[flow]
            number = flow & 0xFFFFFFFF
            if flow >> 32 == tape.pid and number in tape.tasks:
                to_lane = f"{tape.pid}.task{number}"
                label = tape.name(tape.tasks[number][1])
            else:
                to_lane = f"{tape.pid}.{tid}"
                label = tape.name(name) or source.name(record[6])
            if began <= record[1] <= at <= ended:
                last = tape.ends.get((tid, at))
                until = None if last is None or last > ended else (last - began) / 1e9
                times = (record[1] - began) / 1e9, (at - began) / 1e9
                lane = f"{source.pid}.{record[3]}"
                found.append(Arrow(label or "start", lane, times[0], to_lane, times[1], until))
    return iter(sorted(found, key=lambda arrow: arrow.at_s))
