"""The diary is only appended to, and a torn line loses nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.run.events import EventTail, append_event, read_events


def test_events_come_back_in_order(tmp_path):
    append_event(tmp_path, "started", device="cpu", words="on CPU, 2 cores: \u00b5m\u2028\n")
    append_event(tmp_path, "epoch", losses={"total": 1.5}, eta_seconds=None)
    first, second = read_events(tmp_path)
    assert (first["event"], first["words"]) == ("started", "on CPU, 2 cores: \u00b5m\u2028\n")
    assert (second["losses"], second["eta_seconds"]) == ({"total": 1.5}, None)
    assert first["schema_version"] == 1
    assert first["time"] <= second["time"]
    assert (tmp_path / "events.jsonl").read_bytes().count(b"\n") == 2


def test_no_diary_is_no_events(tmp_path):
    assert read_events(tmp_path) == []


@pytest.mark.parametrize(
    "torn", [b'{"schema_version": 1, "ev', b'{"event": "epoch"', b"12", b'"\xc3', b"\0\0\0\0", b"[1]", b"{}"]
)
def test_a_torn_last_line_is_left_out_and_what_follows_is_not(tmp_path, torn):
    append_event(tmp_path, "started")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(torn)
    assert [e["event"] for e in read_events(tmp_path)] == ["started"]
    append_event(tmp_path, "started")
    append_event(tmp_path, "finished")
    assert [e["event"] for e in read_events(tmp_path)] == ["started", "started", "finished"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_json_is_never_written(tmp_path, value):
    append_event(tmp_path, "started")
    before = (tmp_path / "events.jsonl").read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        append_event(tmp_path, "epoch", losses={"total": value})
    assert (tmp_path / "events.jsonl").read_bytes() == before
    for line in before.splitlines():
        json.loads(line)


class TestTail:
    """What a window sees of a diary that somebody else writes."""

    def names(self, tail: EventTail) -> list[str]:
        return [event["event"] for event in tail.new()]

    def test_the_first_look_tells_all_and_each_later_one_what_is_new(self, tmp_path):
        append_event(tmp_path, "started")
        append_event(tmp_path, "epoch", losses={"total": 1.5})
        tail = EventTail(tmp_path)
        assert tail.new() == read_events(tmp_path)
        assert tail.new() == []
        append_event(tmp_path, "epoch", words="\u00b5m\u2028\n")
        append_event(tmp_path, "finished")
        assert tail.new() == read_events(tmp_path)[2:]
        assert tail.new() == []

    def test_a_diary_that_is_not_there_yet(self, tmp_path):
        tail = EventTail(tmp_path / "run")
        assert tail.new() == []
        (tmp_path / "run").mkdir()
        append_event(tmp_path / "run", "started")
        assert self.names(tail) == ["started"]

    @given(st.lists(st.integers(1, 200), max_size=12))
    @settings(deadline=None, max_examples=40)
    def test_however_it_is_cut_while_it_is_written_every_event_is_told_once(self, tmp_path_factory, cuts):
        whole, part = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("part")
        for name in ("started", "epoch", "checkpoint", "finished"):
            append_event(whole, name, words="on CPU, 2 cores: \u00b5m")
        data = (whole / "events.jsonl").read_bytes()
        tail, told, at = EventTail(part), [], 0
        for cut in [*cuts, len(data)]:
            with (part / "events.jsonl").open("ab") as file:
                file.write(data[at : at + cut])
            at += cut
            told += tail.new()
        assert told == read_events(whole)

    @pytest.mark.parametrize("torn", [b"", b'{"schema_version": 1, "ev'])
    def test_what_is_there_can_be_skipped(self, tmp_path, torn):
        tail = EventTail(tmp_path)
        tail.skip()
        append_event(tmp_path, "started")
        with (tmp_path / "events.jsonl").open("ab") as file:
            file.write(torn)
        tail.skip()
        assert tail.new() == []
        append_event(tmp_path, "resumed")
        assert self.names(tail) == ["resumed"]

    def test_a_line_that_was_never_finished_is_left_out_and_what_follows_is_told(self, tmp_path):
        append_event(tmp_path, "started")
        with (tmp_path / "events.jsonl").open("ab") as file:
            file.write(b'{"schema_version": 1, "ev')
        tail = EventTail(tmp_path)
        assert self.names(tail) == ["started"]
        append_event(tmp_path, "started")
        assert self.names(tail) == ["started"]
