"""The progress display during training."""

import io
import re

import pytest
from rich.console import Console

from reprise.errors import UserError
from reprise.training.progress import EpochProgress
from tests.training.conftest import classify


@pytest.mark.parametrize(
    ("monitor", "names"),
    [("accuracy", ("train/loss", "val/loss", "val/accuracy")), ("loss", ("train/loss", "val/loss"))],
)
def test_without_a_terminal_each_epoch_is_one_line(monitor: str, names: tuple[str, ...]) -> None:
    """In a log file, a progress bar would be pages of control characters."""
    shown = io.StringIO()
    trained = classify(callbacks=[EpochProgress(Console(file=shown, width=40), "digits seed 0", monitor)])
    lines = shown.getvalue().splitlines()
    assert len(lines) == 2
    for number, (line, row) in enumerate(zip(lines, trained.rows, strict=True), start=1):
        metrics = "  ".join(f"{name} {row[name]:.4f}" for name in names)
        assert re.fullmatch(rf"digits seed 0  epoch {number}/2  {metrics}  \d+\.\d s", line)


def test_on_a_terminal_the_bar_is_removed_when_training_ends() -> None:
    shown = io.StringIO()
    progress = EpochProgress(Console(file=shown, force_terminal=True, width=160), "digits seed 0", "accuracy")
    classify(callbacks=[progress])
    assert "val/accuracy" in shown.getvalue()
    assert "epoch 2/2" in shown.getvalue() or "epoch 1/2" in shown.getvalue()
    assert not progress.bar.live.is_started


def test_the_bar_is_removed_before_an_error_is_printed() -> None:
    progress = EpochProgress(Console(file=io.StringIO(), force_terminal=True), "digits seed 0", "accuracy")
    with pytest.raises(UserError, match="diverged"):
        classify(callbacks=[progress], lr=1e30)
    assert not progress.bar.live.is_started
