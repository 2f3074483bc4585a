"""The MLflow dashboard of the tracking store."""

from typing import NoReturn

from rich.console import Console

from reprise.analysis import browser
from reprise.config import tracking_config
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import backend, shared_views
from reprise.tracking.address import address, database


def serve(paths: ProjectPaths, port: int, opened: bool, console: Console) -> NoReturn:
    """Replace this process by the MLflow server, and open the page of the newest run's data set.

    Raises:
        UserError: when the tracking store is on a server, which has its own dashboard.

    """
    tracking = tracking_config(paths.root)
    uri = address(tracking, paths.store)
    if database(uri) is None:
        raise UserError(f"the tracking store is a server: {uri}", "open that address")
    pages = shared_views.write(paths.store, tracking)
    url = f"http://127.0.0.1:{port}"
    console.print(f"dashboard  {url}  (Ctrl-C ends it)", soft_wrap=True)
    for name, page in sorted(pages.items()):
        console.print(f"dashboard  {name}, the best first: {url}/{page.table}", highlight=False, soft_wrap=True)
        console.print(f"dashboard  {name}, charts: {url}/{page.charts}", highlight=False, soft_wrap=True)
    if opened and browser.has_display():
        first = next((page.table for page in pages.values()), "")
        browser.open_when_ready(port, f"{url}/{first}")
    backend.serve_dashboard(uri, port)
