"""Writes the shared view of each data set's table of runs, by all runs of the store."""

from collections import Counter
from pathlib import Path

from reprise.config.schema import TrackingConfig
from reprise.tracking import backend, listing, runs_table
from reprise.tracking.address import address
from reprise.tracking.mlflow_sync import PAGE


def write(folder: Path, tracking: TrackingConfig | None) -> dict[str, str]:
    """The page of each data set, by name, that of the newest run first; its table has the columns of all its runs now.

    Raises:
        UserError: when the store fails.

    """
    uri = address(tracking, folder)
    with backend.answering(uri):
        client = backend.connect(uri, folder)
        rows = listing.read(folder, tracking, [], None)
        names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
        pages = {}
        for experiment in dict.fromkeys(row.experiment_id for row in rows):
            runs = [row for row in rows if row.experiment_id == experiment]
            judged = Counter((row.tags["monitor"], row.tags["mode"]) for row in runs if {"monitor", "mode"} <= row.tags.keys())
            if judged and experiment in names:
                (monitor, mode), _ = judged.most_common(1)[0]
                shown = [runs_table.Shown(row.tags, row.params, row.last) for row in runs]
                page = runs_table.address(experiment)
                client.set_experiment_tag(experiment, runs_table.TAG, runs_table.encoded(shown, monitor, mode))
                client.set_experiment_tag(experiment, PAGE, page)
                pages[names[experiment]] = page
    return pages
