"""Spans, their collection across threads, coroutines and processes, and the charts."""

import asyncio
import os
import threading
import time
import xml.etree.ElementTree as ET

import plait
import pytest
from plait.lab import lanes
from plait.lab.timeline import STATES, Lane, Span, Timeline, record, span


def nap() -> None:
    with span("nap", "sleep", holder="nobody"):
        time.sleep(0.01)


def test_spans_outside_of_a_recording_cost_and_keep_nothing() -> None:
    nap()
    with record() as recording:
        pass
    assert recording.timeline == Timeline()
    assert "PLAIT_SPANS" not in os.environ


def test_two_recordings_at_once_are_refused() -> None:
    with record(), pytest.raises(RuntimeError, match="under way"):
        with record():
            pass
    with record() as recording:
        nap()
    assert len(recording.timeline.spans) == 1


def test_a_span_is_kept_though_its_block_raises() -> None:
    with pytest.raises(KeyError), record() as recording:
        with span("fails"):
            raise KeyError
    assert [s.name for s in recording.timeline.spans] == ["fails"]


def test_lanes_of_all_kinds_share_one_clock() -> None:
    async def work() -> None:
        with span("await", "sleep"):
            await asyncio.sleep(0.01)

    with record() as recording:
        with span("all", "idle"):
            thread = threading.Thread(target=nap, name="helper")
            thread.start()
            thread.join()
            asyncio.run(work())
            child = plait.Process(target=nap, name="child")
            child.start()
            child.join()
    timeline = recording.timeline
    assert sorted(lane.kind for lane in timeline.lanes) == [
        "coroutine",
        "process",
        "process",
        "thread",
    ]
    assert {"MainProcess", "helper", "child"} < {lane.name for lane in timeline.lanes}
    first = timeline.lanes[0]
    assert (first.pid, first.name) == (os.getpid(), "MainProcess")
    [everything] = timeline.of(first)
    naps = [s for s in timeline.spans if s is not everything]
    assert len(naps) == 3
    assert all(everything.start_s <= s.start_s < s.end_s <= everything.end_s for s in naps)
    assert all(s.end_s - s.start_s >= 0.009 for s in naps)
    assert {lane.pid for lane in timeline.lanes} == {os.getpid(), child.pid}


def test_computing_must_be_confirmed_by_the_cpu_clock() -> None:
    with record() as recording:
        with span("computes", "gil"):
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
        with span("claims to", "gil"):
            time.sleep(0.01)
    states = {s.name: s.state for s in recording.timeline.spans}
    assert states["claims to"] == "unknown"
    # On a loaded machine the first may lose the processor, and is then rightly undecided.
    assert states["computes"] in ("gil", "nogil", "unknown")


def test_many_spans_grow_the_file_and_touching_ones_are_joined() -> None:
    with record() as recording:
        for number in range(3000):
            with span(f"{number}"):
                pass
    assert len(recording.timeline.spans) == 3000
    with record() as recording:
        for _ in range(100):
            with span("same"):
                pass
    assert 1 <= len(recording.timeline.spans) < 100


@pytest.fixture
def timeline() -> Timeline:
    one, two = Lane("1.1.a", "process", "<a>", 1, 1), Lane("1.2.b", "thread", "b", 1, 2)
    return Timeline(
        (one, two),
        (
            Span("join & wait", one.id, 0.0, 1.0, "idle", "b"),
            Span("nap", two.id, 0.0, 0.5, "sleep"),
            Span("compute", two.id, 0.5, 1.0, "gil"),
        ),
    )


def test_a_timeline_survives_json(timeline: Timeline) -> None:
    assert Timeline.from_dict(timeline.to_dict()) == timeline


def test_text_chart(timeline: Timeline) -> None:
    text = lanes.draw_text(timeline, width=20)
    assert text.splitlines()[1].split() == ["thread", "b", "━" * 10 + "█" * 10]
    assert "sleeping" in text
    assert "not decided" not in text
    assert "nothing" in lanes.draw_text(Timeline())


def test_rich_chart_says_the_same_as_text(timeline: Timeline) -> None:
    pytest.importorskip("rich")
    plain = [line.rstrip() for line in lanes.draw_rich(timeline, width=20).plain.splitlines()]
    assert plain[:3] == lanes.draw_text(timeline, width=20).splitlines()[:3]


def test_svg_is_well_formed_and_escaped(timeline: Timeline) -> None:
    root = ET.fromstring(lanes.draw_svg(timeline))
    titles = [title.text or "" for title in root.iter("title")]
    assert titles[0] == "join & wait: waiting for another lane, for b, 0.0 to 1000.0 ms"
    assert len(list(root.iter("rect"))) == 3
    assert lanes.draw_svg(Timeline()) == ""


def test_png(timeline: Timeline, tmp_path: os.PathLike[str]) -> None:
    pytest.importorskip("matplotlib")
    file = os.path.join(tmp_path, "lanes.png")
    lanes.draw_png(file, {"one": timeline, "two": timeline}, title="both")
    with open(file, "rb") as stream:
        assert stream.read(8) == b"\x89PNG\r\n\x1a\n"
    with pytest.raises(ValueError, match="nothing to draw"):
        lanes.draw_png(file, {"none": Timeline()})


def test_every_state_has_a_colour_and_a_meaning() -> None:
    assert set(lanes.COLOURS) == set(STATES)
