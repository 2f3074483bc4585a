"""Notebooks: executed in a project, stored with their outputs, and shown as pages of the site.

`python docs/generate/notebooks.py` executes all of them, or those that are named, and stores the outputs.
"""

import base64
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = ("digits", "clothes", "temperature")
Notebook = dict[str, Any]


def read(name: str) -> Notebook:
    """Return a notebook."""
    return dict(json.loads((FOLDER / f"{name}.ipynb").read_text()))


def page(name: str, notebook: Notebook) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of a notebook, and the pictures in it by file name."""
    pictures: dict[str, bytes] = {}
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts.extend(_shown(output, f"{name}-{len(pictures)}.png", pictures) for output in cell["outputs"])
    title, *rest = parts
    link = f"[Download the notebook]({name}.ipynb){{ download }}"
    return "\n\n".join([title, link, *filter(None, rest)]) + "\n", pictures


def _shown(output: dict[str, Any], file: str, pictures: dict[str, bytes]) -> str:
    """Return the Markdown of an output; a picture is added to `pictures`."""
    if output["output_type"] == "stream":
        return _block("".join(output["text"]))
    data = {kind: "".join(content) for kind, content in output["data"].items()}
    if "image/png" in data:
        pictures[file] = base64.b64decode(data["image/png"])
        width = output["metadata"].get("image/png", {}).get("width")
        return f"![]({file})" + (f"{{ width={width} }}" if width else "")
    if "<table" in data.get("text/html", ""):
        return f'<div class="notebook-table" markdown="0">{_bare(data["text/html"])}</div>'
    return _block(data["text/plain"])


def _block(text: str) -> str:
    return f'<pre class="output">{html.escape(text.strip())}</pre>'


def _bare(table: str) -> str:
    """Return a table without its styles and blank lines."""
    return re.sub(r"\n\s*\n", "\n", re.sub(r"<style.*?</style>", "", table, flags=re.DOTALL))


def execute(notebook: Notebook, project: Path) -> Notebook:
    """Execute a notebook with a project as its working directory, and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell fails.

    """
    import nbformat  # only to execute: a build of the site reads the stored outputs
    from nbclient import NotebookClient

    node = nbformat.reads(json.dumps(notebook), as_version=4)
    NotebookClient(node, timeout=1200, kernel_name="python3", resources={"metadata": {"path": str(project)}}).execute()
    for cell in node.cells:
        cell.metadata.pop("execution", None)  # times
    text = nbformat.writes(node)
    if mirror := os.environ.get("REPRISE_MIRROR"):
        text = text.replace(mirror, "REPRISE_MIRROR")  # a path of this machine
    return dict(json.loads(text))


def make_project(folder: Path) -> Path:
    """Make the project `lessons` below a folder, as the notebooks ask for."""
    subprocess.run([sys.executable, "-m", "reprise", "init", "lessons"], cwd=folder, check=True)
    return folder / "lessons"


def main(names: list[str]) -> None:
    """Execute notebooks and store their outputs."""
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        for name in names or NAMES:
            done = execute(read(name), project)
            (FOLDER / f"{name}.ipynb").write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
