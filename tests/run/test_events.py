"""The diary is only appended to, and a torn line loses nothing else."""

from __future__ import annotations

import json

import pytest

from napari_disentangle.run.events import append_event, read_events


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
