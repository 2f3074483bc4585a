"""Read the raw files of a published data set."""

from pathlib import Path

from reprise.config import PublishedData
from reprise.data import store
from reprise.errors import UserError


def read_files(data: PublishedData, raw: Path) -> dict[str, bytes]:
    """Return the content of each file, by name.

    Raises:
        UserError: if a file is missing or its sha256 differs.

    """
    hint = f"run `reprise download data={data.name}`"
    for file in data.files:
        if not (raw / file.name).is_file():
            raise UserError(f"no {raw / file.name}", hint)
        if store.sha256(raw / file.name) != file.sha256:
            raise UserError(f"{raw / file.name} is not as published (sha256 differs)", hint)
    return {file.name: (raw / file.name).read_bytes() for file in data.files}
