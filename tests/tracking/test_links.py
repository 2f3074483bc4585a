"""Descriptions on the dashboard link a run with its parent, its comparison, its registered models and the views."""

from pathlib import Path

from reprise.tracking import backend, charts_view, links, runs_table
from reprise.tracking.descriptions import LONGEST, NOTE
from tests.analysis.trainings import write_run


def test_a_run_links_to_its_parent_its_models_the_comparison_and_the_views(tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    parent = write_run(folder, 0, [], tags={"group": "seeds"})
    run = write_run(folder, 1, [0.5], tags={links.PARENT_TAG: parent, NOTE: "A run."})
    client = backend.connect(backend.local_address(folder), folder)
    experiment = client.get_run(run).info.experiment_id
    views = f"[all runs, the best first]({runs_table.address(experiment)}), [charts]({charts_view.address(experiment)})."
    to_parent = f"[the parent run digits_cnn-seed0](#/experiments/{experiment}/runs/{parent})"
    note = links.with_links(client, run, "A run.")
    assert note == f"A run.\n\nSee also: {to_parent}, {views}"
    assert links.with_links(client, run, note) == note
    comparison = write_run(folder, 2, [], tags={"group": "comparison", NOTE: "A comparison."})
    client.create_registered_model("my digits")
    client.create_model_version("my digits", str(tmp_path), run)
    client.set_registered_model_alias("my digits", "champion", "1")
    links.refresh_all(folder, None, [run, comparison])
    page = f"#/experiments/{experiment}/runs/{comparison}/artifacts/comparison/compare.html"
    model = "[model my digits version 1 @champion](#/models/my%20digits/versions/1)"
    expected = f"A run.\n\nSee also: {to_parent}, {model}, [the newest comparison]({page}), {views}"
    assert client.get_run(run).data.tags[NOTE] == expected
    assert (
        client.get_run(comparison).data.tags[NOTE].startswith(f"A comparison.\n\nSee also: [the page of the comparison]({page})")
    )
    long = "x" * (LONGEST - 10)
    assert links.with_links(client, run, long) == long
