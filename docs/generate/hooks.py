"""Hooks of MkDocs: pages made from code and from files outside of docs/.

MkDocs puts this folder on the path while it loads the hooks.
"""

import re
from pathlib import Path

import cli_reference
import config_reference
import notebooks
import performance
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages of the site that lie at the root of the repository."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from code, and those of the root of the repository."""
    made: dict[str, str | bytes] = {"reference/cli.md": cli_reference.page(), "reference/config.md": config_reference.page()}
    made["performance.md"] = performance.page()
    made |= {page: (ROOT / name).read_text().replace("](docs/", "](") for name, page in OUTSIDE.items()}
    for name in notebooks.NAMES:
        text, pictures = notebooks.page(name, notebooks.read(name))
        made |= {f"notebooks/{name}.md": text} | {f"notebooks/{file}": content for file, content in pictures.items()}
    for page, content in made.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to the root of the repository, and to notebooks, to the pages of the site. Give tables of results room."""
    if page.file.src_uri.startswith(("results", "performance")):  # wide tables
        page.meta["hide"] = ["navigation", "toc"]
        markdown = markdown.replace(" ± ", "\u00a0±\u00a0")
    for name, target in OUTSIDE.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(name)}", f"]({_relative(target, page)}", markdown)
    return re.sub(r"(\]\((?:\.\./)*notebooks/\w+)\.ipynb\)", r"\1.md)", markdown)


def _relative(target: str, page: Page) -> str:
    return "../" * page.file.src_uri.count("/") + target
