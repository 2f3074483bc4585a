"""The server follows the alias of a registered model, and keeps the model it has if it cannot."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.serving import alias
from reprise.serving.alias import Alias, AliasWatch, parse_alias
from reprise.serving.limits import Limits
from reprise.serving.metrics import Metrics
from reprise.serving.model import Identity, ModelHolder
from reprise.tracking import registry


class FakeModel:
    """A model that knows whether it was closed."""

    device = "auto"

    def __init__(self, version: str, kind: str = "images") -> None:
        self.identity = Identity(f"run{version}", "0" * 12, "digits@champion", version)
        self.answerer = SimpleNamespace(kind=kind)
        self.closed = threading.Event()
        self.batcher = SimpleNamespace(close=self.closed.set)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits@champion", Alias("digits", "champion")),
        ("models:/my digits@best-1", Alias("my digits", "best-1")),
        ("digits_cnn-seed0-1a2b", None),
        ("models:/digits/3", None),
        ("a@b@c", None),
    ],
)
def test_a_registered_model_is_told_from_a_run(text: str, expected: Alias | None) -> None:
    assert parse_alias(text) == expected


def test_a_replaced_model_is_closed_after_its_last_request() -> None:
    first, second = FakeModel("1"), FakeModel("2")
    holder = ModelHolder(first)  # type: ignore[arg-type]
    with holder.use() as one, holder.use():
        holder.replace(second)  # type: ignore[arg-type]
        assert one is first  # type: ignore[comparison-overlap]
        assert not first.closed.is_set()
        with holder.use() as other:
            assert other is second  # type: ignore[comparison-overlap]
    assert first.closed.is_set()
    assert not second.closed.is_set()


def test_the_watch_follows_the_alias_and_survives_what_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """In turn: the registry is down twice, a run cannot be loaded, another kind of data, and at last a model."""
    steps: list[Any] = [UserError("down"), UserError("down"), "2", "3", "4", "4"]
    reports, done = [], threading.Event()

    def version_with_alias(*_: object) -> registry.AliasedVersion:
        step = steps.pop(0)
        if not steps:
            steps.append(step)
            done.set()
        if isinstance(step, Exception):
            raise step
        return registry.AliasedVersion(step, f"run{step}")

    def load(_: object, run: str, limits: Limits, device: str, model: str, version: str) -> FakeModel:
        assert device == "auto"  # that of the model before
        if version == "2":
            raise ValueError("damaged\nweights")
        return FakeModel(version, "series" if version == "3" else "images")

    monkeypatch.setattr(registry, "version_with_alias", version_with_alias)
    monkeypatch.setattr(alias, "load", load)
    monkeypatch.setattr(alias.configs, "tracking_config", lambda _: None)
    first, metrics = FakeModel("1"), Metrics()
    holder = ModelHolder(first)  # type: ignore[arg-type]
    watch = AliasWatch(ProjectPaths(Path()), Alias("digits", "champion"), holder, Limits(), 0.001, metrics, reports.append)
    assert done.wait(30)
    watch.stop()
    assert holder.current.identity.version == "4"
    assert first.closed.is_set()
    assert (metrics.reloads, metrics.failed_reloads) == (1, 4)
    assert reports == [
        "digits@champion: down; run1 is still served",
        "digits@champion: damaged weights; run1 is still served",
        "digits@champion: version 3 is for series; start a server for it; run1 is still served",
        "digits@champion is now version 4, run4",
    ]
