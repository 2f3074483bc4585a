"""MLflow's dashboard over the tracking store."""

from typing import NoReturn

from rich.console import Console

from reprise.config import tracking_config
from reprise.errors import UserError
from reprise.stages.places import Places
from reprise.tracking import backend
from reprise.tracking.address import database
from reprise.tracking.delivery import PAGE


def serve(places: Places, port: int, console: Console) -> NoReturn:
    """Become MLflow's server; a store on a server of its own is only pointed to."""
    uri = backend.address(tracking_config(places.root), places.store)
    if database(uri) is None:
        raise UserError(f"the tracking store is a server: {uri}", "open that address")
    pages = {
        found.name: found.tags[PAGE] for found in backend.connect(uri, places.store).search_experiments() if PAGE in found.tags
    }
    place = f"http://127.0.0.1:{port}"
    console.print(f"dashboard  {place}  (Ctrl-C ends it)", soft_wrap=True)
    for name, page in sorted(pages.items()):
        console.print(f"dashboard  {name}, the best first: {place}/{page}", highlight=False, soft_wrap=True)
    backend.dashboard(uri, port)
