"""Output of long computations in a notebook: one output per cell that is updated, instead of a line for every epoch."""

import html
import io
import re
import sys
import warnings

from rich.console import Console

EPOCH = re.compile(r"^(?P<title>.*  epoch )(?P<done>\d+)/(?P<total>\d+)  ")
"""A line that reports an epoch."""
WIDTH = 110
"""Characters in a line of a cell's output."""


def console() -> Console:
    """Return a console for the caller: in a notebook one that updates a single output, otherwise that of the process."""
    if not in_notebook():
        return Console()
    return Console(file=CellOutput(), force_jupyter=False, force_terminal=False, width=WIDTH)


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class CellOutput(io.StringIO):
    """A text stream whose lines are shown in one output of the cell. The line of an epoch replaces that of the epoch before."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.unfinished = ""
        self.shown = False

    def write(self, text: str) -> int:
        """Add the finished lines of a text and show them."""
        *finished, self.unfinished = (self.unfinished + text).split("\n")
        for line in finished:
            self._add(line)
        if finished:
            self._show()
        return len(text)

    def _add(self, line: str) -> None:
        new, old = EPOCH.match(line), EPOCH.match(self.lines[-1]) if self.lines else None
        if new and old and new["title"] == old["title"]:
            self.lines.pop()
        self.lines.append(line)

    def _show(self) -> None:
        from IPython.display import display

        text = "\n".join(self.lines)
        content = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>{self._bar()}"}
        display(content, raw=True, display_id=f"reprise-{id(self)}", update=self.shown)  # type: ignore[no-untyped-call]
        self.shown = True

    def _bar(self) -> str:
        """Return a progress bar while epochs are being trained."""
        epoch = EPOCH.match(self.lines[-1]) if self.lines else None
        if not epoch or epoch["done"] == epoch["total"]:
            return ""
        return f'<progress value="{epoch["done"]}" max="{epoch["total"]}"></progress>'


if in_notebook():  # before libraries import tqdm, which misses its widgets
    warnings.filterwarnings("ignore", message="IProgress not found")
