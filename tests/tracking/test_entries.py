"""The format of event logs: what is written is read again, also by other versions."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reprise.errors import UserError
from reprise.tracking.entries import (
    DatasetEntry,
    DatasetInfo,
    Entry,
    FileEntry,
    Input,
    InputsEntry,
    MetricEntry,
    ModelEntry,
    ParamsEntry,
    StatusEntry,
    TagRemovalEntry,
    TagsEntry,
    from_lines,
    to_lines,
)
from reprise.tracking.event_log import EventLog, read_history

FILE = Path("events.jsonl")
RECORDED = (
    ('{"tags": {"seed": "0", "device": "cpu"}}', TagsEntry({"seed": "0", "device": "cpu"})),
    ('{"remove_tags": ["error"]}', TagRemovalEntry(["error"])),
    ('{"params": {"model.blocks.0.filters": "16"}}', ParamsEntry({"model.blocks.0.filters": "16"})),
    (
        '{"inputs": [{"name": "digits (windows)", "digest": "0af3", "source": {"homepage": "", "licence": "BSD"}, "context": "windows"}]}',
        InputsEntry([Input("digits (windows)", "0af3", {"homepage": "", "licence": "BSD"}, "windows")]),
    ),
    ('{"file": "lineage/config.json"}', FileEntry("lineage/config.json")),
    (
        '{"key": "val/loss", "value": 0.30000000000000004, "timestamp": 1795763038604, "step": 2}',
        MetricEntry("val/loss", 0.1 + 0.2, 2, 1795763038604),
    ),
    ('{"key": "val/loss", "value": 0.5, "step": 1}', MetricEntry("val/loss", 0.5, 1)),  # data/models/…/seed0.history.jsonl
    ('{"model": "model"}', ModelEntry("model")),
    (
        '{"dataset": {"title": "Digits", "homepage": "", "citation": "", "licence": "BSD", "monitor": "best/val/accuracy", "mode": "max"}}',
        DatasetEntry(DatasetInfo("Digits", "", "", "BSD", "best/val/accuracy", "max")),
    ),
    ('{"status": "RUNNING"}', StatusEntry("RUNNING")),
    ('{"status": "FINISHED", "timestamp": 1795763038604}', StatusEntry("FINISHED", 1795763038604)),
)
"""Lines as version 0.1 wrote them. Never change one: they stand for the logs on users' disks."""

texts = st.text(st.characters(exclude_categories=["Cs"]))
entries = st.one_of(
    st.builds(MetricEntry, texts, st.floats(), st.integers(0, 10**9), st.integers(0, 2**53)),
    st.builds(TagsEntry, st.dictionaries(texts, texts)),
    st.builds(TagRemovalEntry, st.lists(texts)),
    st.builds(FileEntry, st.text()),
    st.builds(StatusEntry, texts, st.none() | st.integers(0, 2**53)),
)


def test_lines_of_earlier_versions_are_read() -> None:
    assert from_lines(FILE, [line.encode() for line, _ in RECORDED], 0) == [entry for _, entry in RECORDED]


@given(st.lists(entries, max_size=5))
def test_written_entries_are_read_again_bit_by_bit(written: list[Entry]) -> None:
    read = from_lines(FILE, to_lines(written).splitlines(), 0)
    assert [_bits(entry) for entry in read] == [_bits(entry) for entry in written]


def _bits(entry: Entry) -> object:
    """The entry with a value that NaN equals."""
    if not isinstance(entry, MetricEntry):
        return entry
    value = "nan" if entry.value != entry.value else struct.pack("d", entry.value).hex()
    return entry.key, value, entry.timestamp, entry.step


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_values_are_parsed_as_python_does(value: float) -> None:
    (entry,) = from_lines(FILE, [f'{{"key": "a", "value": {value!r}, "timestamp": 0, "step": 0}}'.encode()], 0)
    assert isinstance(entry, MetricEntry)
    assert struct.pack("d", entry.value) == struct.pack("d", value)


def test_fields_that_a_newer_version_added_are_ignored() -> None:
    line = b'{"key": "val/loss", "value": 0.5, "timestamp": 1, "step": 2, "rank": 3}'
    assert from_lines(FILE, [line], 0) == [MetricEntry("val/loss", 0.5, 2, 1)]


def test_entries_of_an_unknown_kind_are_refused() -> None:
    lines = [b'{"file": "a"}', b'{"histogram": [1, 2], "step": 1}']
    with pytest.raises(UserError, match=r"events.jsonl: line 9 holds 'histogram', .* not know; install the newer reprise"):
        from_lines(FILE, lines, 7)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}}",
        b'{"file": "a"},{"file": "b"}',
        b'{"key": "val/loss", "value": "many", "timestamp": 1, "step": 2}',
        b'{"key": "val/loss", "value": 0.5}',
        b'{"tags": {"seed": 0}}',
        b"\xff",
    ],
)
def test_a_damaged_line_is_named(line: bytes) -> None:
    with pytest.raises(UserError, match=r"events.jsonl: line 2 is damaged; delete that line"):
        from_lines(FILE, [b'{"file": "a"}', line, b'{"file": "b"}'], 0)


@pytest.mark.parametrize("line", [b"{}", b"[]", b"3", b"null"])
def test_json_that_is_no_entry_is_refused(line: bytes) -> None:
    with pytest.raises(UserError, match=r"events.jsonl: line 1"):
        from_lines(FILE, [line], 0)


def test_a_wrong_type_is_found_where_an_entry_is_made() -> None:
    with pytest.raises(ValueError, match="value"):
        MetricEntry("val/loss", "many", 0, 1)  # type: ignore[arg-type]


def test_a_log_of_an_earlier_version_gives_status_tags_and_history(tmp_path: Path) -> None:
    run_dir = tmp_path / "mlruns" / "runs" / "a"
    run_dir.mkdir(parents=True)
    (run_dir / "events.jsonl").write_text("".join(f"{line}\n" for line, _ in RECORDED))
    event_log = EventLog(run_dir)
    assert (event_log.status, event_log.tags) == ("FINISHED", {"seed": "0", "device": "cpu"})
    assert read_history(event_log.file) == {"val/loss": [(2, 0.1 + 0.2), (1, 0.5)]}
