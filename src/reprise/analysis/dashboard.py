"""MLflow's dashboard over the tracking store."""

from typing import NoReturn

from rich.console import Console

from reprise.analysis import browser
from reprise.config import tracking_config
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths
from reprise.tracking import backend, shared_views
from reprise.tracking.address import address, database


def serve(paths: ProjectPaths, port: int, opened: bool, console: Console) -> NoReturn:
    """Become MLflow's server, and open the page of the newest run's data set.

    Raises:
        UserError: when the store is on a server, which has a dashboard of its own.

    """
    tracking = tracking_config(paths.root)
    uri = address(tracking, paths.store)
    if database(uri) is None:
        raise UserError(f"the tracking store is a server: {uri}", "open that address")
    pages = shared_views.write(paths.store, tracking)
    place = f"http://127.0.0.1:{port}"
    console.print(f"dashboard  {place}  (Ctrl-C ends it)", soft_wrap=True)
    for name, page in sorted(pages.items()):
        console.print(f"dashboard  {name}, the best first: {place}/{page}", highlight=False, soft_wrap=True)
    if opened and browser.has_display():
        browser.open_when_ready(port, f"{place}/{next(iter(pages.values()), '')}")
    backend.dashboard(uri, port)
