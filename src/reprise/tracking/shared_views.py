"""Write the shared views of each data set: the table of runs and the charts."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from reprise.config.schema import TrackingConfig
from reprise.tracking import backend, charts_view, listing, runs_table
from reprise.tracking.address import address
from reprise.tracking.mlflow_sync import PAGE


@dataclass(frozen=True)
class Pages:
    """Paths of the views of a data set, relative to the dashboard's address."""

    table: str
    charts: str


def write(folder: Path, tracking: TrackingConfig | None) -> dict[str, Pages]:
    """Update table and charts of each data set to all its runs. Return the pages by name, newest run's data set first.

    Raises:
        UserError: if the store fails.

    """
    uri = address(tracking, folder)
    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        rows = listing.read(folder, tracking, [], None)
        names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
        pages: dict[str, Pages] = {}
        for experiment in dict.fromkeys(row.experiment_id for row in rows):
            runs = [row for row in rows if row.experiment_id == experiment]
            monitors = Counter((row.tags["monitor"], row.tags["mode"]) for row in runs if {"monitor", "mode"} <= row.tags.keys())
            if monitors and experiment in names:
                (monitor, mode), _ = monitors.most_common(1)[0]
                table = [runs_table.TableRow(row.tags, row.params, row.last) for row in runs]
                page = runs_table.address(experiment)
                client.set_experiment_tag(experiment, runs_table.TAG, runs_table.encoded(table, monitor, mode))
                client.set_experiment_tag(experiment, charts_view.TAG, charts_view.encoded(table, monitor, mode))
                client.set_experiment_tag(experiment, PAGE, page)
                pages[names[experiment]] = Pages(page, charts_view.address(experiment))
    return pages
