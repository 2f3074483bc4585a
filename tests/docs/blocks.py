"""The blocks of the pages of the documentation, and the script that runs those of a page in order, as they stand."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    str(file.relative_to(DOCS))
    for file in DOCS.rglob("*.md")
    if file.parent.name != "decisions" and not file.name.startswith("results")
)
"""Every page that is written by hand, relative to docs/. Decisions are records of a day."""
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^# (?P<added>added to )?(?P<path>[\w./]+\.(?:yaml|py))\n", re.MULTILINE)


class Block(NamedTuple):
    """A block: `bash` and `python` are run, `yaml` and Python files are written, `text` is output."""

    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    return [Block(found["language"], found["text"]) for found in FENCE.finditer((DOCS / page).read_text())]


def files(block: Block) -> list[tuple[str, bool, str]]:
    """Return the files of a block: path, whether it is added to an existing file, and content. A first line names each file."""
    starts = list(NAMED.finditer(block.text))
    ends = [*(found.start() for found in starts[1:]), len(block.text)]
    return [
        (found["path"], bool(found["added"]), block.text[found.end() : end]) for found, end in zip(starts, ends, strict=False)
    ]


def commands(page: str) -> list[str]:
    """Return the lines of a page's blocks that call reprise."""
    lines = [line for block in blocks(page) if block.language == "bash" for line in block.text.splitlines()]
    return [line for line in lines if line.startswith("reprise ")]


MERGE = """python - {path} <<'PYTHON'
import sys, yaml
from pathlib import Path
def merge(old, new):
    for key, value in new.items():
        kept = old.get(key)
        old[key] = merge(kept or {{}}, value) if isinstance(value, dict) else (kept or []) + value if isinstance(value, list) else value
    return old
file = Path(sys.argv[1])
file.write_text(yaml.safe_dump(merge(yaml.safe_load(file.read_text()), yaml.safe_load({content!r}))))
PYTHON
"""


def script(page: str) -> str:
    """Return the bash script that does what a reader of the page does."""
    return "\n".join(part for block in blocks(page) for part in _steps(block))


def _steps(block: Block) -> Iterator[str]:
    if block.language == "bash":
        yield block.text
    elif block.language in {"yaml", "python"} and NAMED.match(block.text):
        for path, added, content in files(block):
            if added:
                yield MERGE.format(path=path, content=content)
            else:
                yield f"mkdir -p {Path(path).parent}; cat > {path} <<'FILE'\n{content}FILE"
    elif block.language == "python":
        yield f"python - <<'PYTHON'\n{block.text}PYTHON"
