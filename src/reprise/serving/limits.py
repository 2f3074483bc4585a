"""What a request may cost, and the error that answers one that is wrong or too large."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one request."""

    body: int = 16 * 2**20
    """Bytes of the body."""
    batch: int = 256
    """Pictures, sequences or series."""
    pixels: int = 25_000_000
    """Pixels of one picture: a small file may hold very many."""
    cells: int = 4_000_000
    """Cells of a Parquet table: a small file may hold very many."""
    seconds: float = 30.0
    """Time to receive the body."""


class RequestError(Exception):
    """An error that the client can correct: a status from 400 to 499 and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(" ".join(message.split()))
        self.status = status
