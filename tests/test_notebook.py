"""Output in a notebook: a training of any length leaves a few lines in its cell."""

from typing import Any

import pytest
from IPython import display as ipython_display

from reprise import notebook


def test_the_line_of_an_epoch_replaces_that_of_the_epoch_before(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[dict[str, str], str, bool]] = []

    def display(content: dict[str, str], raw: bool, display_id: str, update: bool) -> None:
        assert raw
        shown.append((content, display_id, update))

    monkeypatch.setattr(ipython_display, "display", display)
    stream: Any = notebook.CellOutput()
    print("train  two seeds <a>", file=stream)
    for seed in (0, 1):
        for epoch in (1, 2, 3):
            print(f"seed {seed}  epoch {epoch}/3  val/loss {1 / epoch:.2f}", file=stream)
    print("train  done", file=stream)
    assert len({display_id for _, display_id, _ in shown}) == 1
    assert [update for *_, update in shown] == [False] + [True] * 7
    last = shown[-1][0]
    assert last["text/plain"].splitlines() == [
        "train  two seeds <a>",
        "seed 0  epoch 3/3  val/loss 0.33",
        "seed 1  epoch 3/3  val/loss 0.33",
        "train  done",
    ]
    assert "&lt;a&gt;" in last["text/html"]
    assert "<progress" not in last["text/html"]
    assert '<progress value="2" max="3">' in shown[2][0]["text/html"]


def test_outside_of_a_notebook_the_console_is_that_of_the_process() -> None:
    assert not notebook.in_notebook()
    assert not isinstance(notebook.console().file, notebook.CellOutput)
