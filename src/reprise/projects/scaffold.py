"""Write the folder of a new project."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from reprise.errors import UserError, warn
from reprise.figures.style import save
from reprise.projects import preview
from reprise.projects.dvc_stages import dvc_yaml
from reprise.projects.own_data import OwnData, name_of
from reprise.tracking.repository import git, last_line

LISTS: Mapping[str, Any] = {
    "experiments": {},
    "long": {},
    "datasets": [],
    "long_datasets": [],
    "folders": [],
    "ablation": {},
    "plugins": {},
    "overrides": [],
}
PIPELINE = """\
# What `reprise repro` makes. experiments: each with its data set; folders: data sets of your own files, in conf/data/;
# overrides: for all experiments, such as seeds=3. The other lists: the reference of the config in the documentation.
"""
IGNORED = "__pycache__/\n.venv/\n"
DATA_IGNORED = """\
# DVC keeps what the pipeline makes. git keeps the small results: `dvc metrics` and `dvc plots` compare commits by them.
*
!.gitignore
!/results/
!/results/*/
!/results/*/metrics.json
!/results/*/curves.csv
"""
RUNS_IGNORED = "# The tracking store and the run directories.\n*\n!.gitignore\n"


def write(folder: Path, own: OwnData | None, raw: Path | None = None) -> str:
    """Write a project, with an experiment on own data if there is some. Return the name of the experiment, or "".

    The content of `raw`, if there is any, is copied to data/raw/. The folder appears when it is complete.

    Raises:
        UserError: when the folder exists and is not empty, or git or DVC fail.

    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already", "name a new folder, or an empty one")
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = name_of(own.path) if own else ""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        draft = Path(scratch) / folder.name
        for file, text in _files(name, own).items():
            (draft / file).parent.mkdir(parents=True, exist_ok=True)
            (draft / file).write_text(text, "utf-8")
        if own:
            save(preview.figure(own, name), draft / "preview.png")
        if raw and raw.is_dir():
            shutil.copytree(raw, draft / "data" / "raw", ignore=shutil.ignore_patterns(".*"))
        _initialise(draft)
        if folder.exists():
            folder.rmdir()
        shutil.move(draft, folder)
    return name


def _files(name: str, own: OwnData | None) -> dict[str, str]:
    lists = dict(LISTS)
    files: dict[str, str] = {}
    if own:
        lists |= {"experiments": {name: name}, "folders": [name]}
        files[f"conf/data/{name}.yaml"] = _data_yaml(name, own)
        files[f"conf/experiment/{name}.yaml"] = _experiment_yaml(name, own)
    return files | {
        "conf/pipeline.yaml": PIPELINE + yaml.safe_dump(lists, sort_keys=False),
        "dvc.yaml": dvc_yaml(),
        ".gitignore": IGNORED,
        ".dvcignore": ".venv\nmlruns\n__pycache__\n",
        "data/.gitignore": DATA_IGNORED,
        "data/plugins/.gitignore": "# DVC lists here the hashes of plugins; conf/pipeline.yaml names the plugins.\n",
        "mlruns/.gitignore": RUNS_IGNORED,
        "README.md": _readme(name, own),
    }


def _data_yaml(name: str, own: OwnData) -> str:
    comments = "".join(f"# {line}\n" for line in preview.findings(own))
    values = {"name": name, "title": own.path.name, "path": str(own.path.resolve()), **own.settings}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    return f"{comments}# All keys: `reprise compose experiment={name}`.\ndefaults: [{own.kind.base}, _self_]\n{text}"


def _experiment_yaml(name: str, own: OwnData) -> str:
    test = "window:\n  test_size: null # the data has a test set of its own\n" if own.has_test else ""
    return (
        f"# @package _global_\n# reprise train experiment={name}\n# Any key can be set here; `reprise compose experiment={name}` "
        f"prints them all.\ndefaults:\n  - {own.kind.experiment}\n  - override /data: {name}\n  - _self_\n\nname: {name}\n{test}"
    )


def _readme(name: str, own: OwnData | None) -> str:
    if not own:
        return (
            "# A project of reprise\n\nAdd a data set to conf/data/ and an experiment to conf/experiment/, and list both in "
            "conf/pipeline.yaml.\n"
        )
    asked = {"images": "PICTURES", "series": "FILE", "sequences": "FILE"}[own.kind.modality]
    found = "\n".join(f"- {line}" for line in preview.findings(own))
    return f"""# {name}

{own.path.name}, as `reprise init` found it (preview.png):

{found}

```
reprise repro                     # reads the data, trains, evaluates on the test split
reprise dashboard                 # shows every run in the browser
reprise predict last {asked:<13}# applies the newest run to new data
reprise serve last                # answers requests over HTTP, on http://127.0.0.1:8000
```

conf/ holds what differs from the settings of reprise: `reprise compose experiment={name}` prints all of them. Commit conf/,
dvc.yaml, dvc.lock and data/results/ after each change, so that every result can be reproduced.
"""


def _initialise(folder: Path) -> None:
    """Make a git repository with DVC and a first commit."""
    for program, arguments in (("git", ["init", "--quiet"]), ("dvc", ["init", "--quiet"])):
        command = [program, *arguments] if program == "git" else [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
        if done.returncode:
            raise UserError(f"{program} init failed: {last_line(done.stderr.encode())}", f"install {program}")
    git(folder, "add", "--all")
    committed = git(folder, "commit", "--quiet", "--message", "Start the project")
    if committed.returncode:
        warn(
            "nothing is committed yet, and runs record the commit they are made with: set user.name and user.email of git, then "
            "`git commit --all --message 'Start the project'`"
        )
