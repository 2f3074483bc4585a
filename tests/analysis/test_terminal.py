"""Characters that a terminal cannot show are replaced; no command fails with UnicodeEncodeError."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reprise import terminal
from reprise.__main__ import main
from tests.analysis.trainings import write_run

ROOT = Path(__file__).resolve().parents[2]


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)


def written(text_stream: io.TextIOWrapper) -> str:
    assert isinstance(text_stream.buffer, io.BytesIO)
    return text_stream.buffer.getvalue().decode(text_stream.encoding, "surrogateescape")


@example("¥", "shift_jis")
@given(st.text(st.characters()), st.sampled_from(["ascii", "latin-1", "cp1252", "koi8-r", "shift_jis", "utf-8"]))
def test_any_text_can_be_printed_and_supported_characters_are_kept(text: str, encoding: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream(encoding))
        terminal.protect()
        sys.stdout.write(text)
        shown = written(sys.stdout)
    kept = [character for character in text if can_encode(character, encoding)]
    assert all(
        character.encode(encoding).decode(encoding) in shown for character in kept
    )  # shift_jis has one byte for both ¥ and the backslash
    if len(kept) == len(text):
        assert shown.encode(encoding) == text.encode(encoding)


def can_encode(character: str, encoding: str) -> bool:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return character not in "\r\n"


def test_special_characters_of_the_output_are_transliterated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", stream("ascii"))
    terminal.protect()
    sys.stdout.write("0.941 ± 0.001 – lr 1→2 … café 猫")
    assert written(sys.stdout) == "0.941 +- 0.001 - lr 1->2 ... cafe ?"


COMMANDS = (["runs"], ["runs", "--json"], ["compare"], ["compare", "--json"], ["compose", "experiment=temperature_lstm"])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_every_listing_works_on_a_terminal_without_unicode(
    encoding: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in (0, 1):
        write_run(
            project / "mlruns",
            seed,
            [0.8, 0.9 + seed / 100],
            experiment="猫 ± naïve",
            config={"model.note": "→" if seed else "–"},
        )
    monkeypatch.chdir(project)
    for command in [*COMMANDS, ["train", "experiment=猫"], ["lineage", "猫→"], ["compare", "猫"]]:
        out, err = stream(encoding), stream(encoding)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == (0 if command in COMMANDS else 2), written(err)
        assert "naive" in written(out).replace("ï", "i").replace("\\u00ef", "i") or command not in COMMANDS[:4]
        if "--json" in command:
            assert "猫 ± naïve" in json.dumps(json.loads(written(out)), ensure_ascii=False)


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "latin-1"}]
)
def test_help_and_errors_are_printed_in_any_locale(environment: dict[str, str]) -> None:
    for arguments, code in ((["compare", "--help"], 0), (["compose", "experiment=猫"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "reprise", *arguments],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
        )
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
