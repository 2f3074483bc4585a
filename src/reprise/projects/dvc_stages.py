"""The dvc.yaml of a project outside of a clone: the stages of reprise, which depend on hashes of the installed code."""

from typing import Any

import yaml

from reprise.stages.code import SOURCE, shipped_stages

HEADER = """\
# Made by `reprise init`. The stages of reprise; conf/pipeline.yaml lists what is made.
# data/code.json has a hash of the installed code of each stage: after an upgrade of reprise, the stages whose code changed run
# again.
"""
SHIPPED_CONF = "conf/data/"
"""Stages of own data depend on further files of this folder, which are part of reprise here: `compose` and `code` cover them."""


def dvc_yaml() -> str:
    """Return the text of dvc.yaml."""
    code = {"cmd": "reprise code", "always_changed": True, "outs": ["data/code.json"]}
    stages: dict[str, Any] = {"code": code}
    for name, entry in shipped_stages().items():
        inner = _with_code(name, entry.get("do", entry))
        stages[name] = {"foreach": entry["foreach"], "do": inner} if "do" in entry else inner
    return HEADER + yaml.safe_dump({"vars": ["conf/pipeline.yaml"], "stages": stages}, sort_keys=False, width=1000)


def _with_code(name: str, stage: dict[str, Any]) -> dict[str, Any]:
    """Return a stage that depends on the hash of its code instead of on source files."""
    deps = stage.get("deps", [])
    kept = [path for path in deps if not path.startswith(SOURCE) and not _is_shipped_conf(path)]
    code = [{"data/code.json": [name]}] if len(kept) < len(deps) else []
    changed = {"deps": kept, "params": [*stage.get("params", []), *code]}
    order = dict.fromkeys(["cmd", "always_changed", *changed, *stage])
    return {key: value for key in order if (value := {**stage, **changed}.get(key))}


def _is_shipped_conf(path: str) -> bool:
    return path.startswith(SHIPPED_CONF) and "${" not in path
