"""doctor: examine machine, project and services, and name each fault with its fix."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from reprise.analysis.doctor import machine, project, services
from reprise.analysis.doctor.findings import Check, run_checks
from reprise.config import Config
from reprise.project_paths import ProjectPaths

STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


def examine(paths: ProjectPaths, overrides: Sequence[str], port: int) -> list[Check]:
    """Run every check. With overrides, examine that experiment; otherwise those of `dvc repro`. Nothing is changed."""
    configs: list[Config] = []
    return list(
        run_checks(
            {
                "packages": lambda check: machine.packages(check, paths.root),
                "config": lambda check: project.config(check, paths, overrides, configs),
                "devices": lambda check: machine.devices(check, configs),
                "threads": lambda check: machine.threads(check, configs),
                "memory": lambda check: machine.memory(check, configs, paths),
                "disk": lambda check: machine.disk(check, paths),
                "data": lambda check: project.data(check, paths, configs),
                "code": lambda check: project.code(check, paths),
                "dvc": lambda check: project.dvc(check, paths),
                "tracking": lambda check: services.tracking(check, paths),
                "runs": lambda check: services.runs(check, paths),
                "locks": lambda check: services.locks(check, paths),
                "mirror": lambda check: services.mirror(check),
                "port": lambda check: services.port(check, port),
            }
        )
    )


def described(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as plain values."""
    return {
        "status": "error" if has_errors(checks) else "ok",
        "checks": [{"name": check.name, "status": check.status, "facts": check.facts} for check in checks],
        "findings": [{"check": check.name, **asdict(finding)} for check in checks for finding in check.findings],
    }


def has_errors(checks: Sequence[Check]) -> bool:
    """Return whether a finding has to be fixed."""
    return any(check.status == "error" for check in checks)


def show(checks: Sequence[Check], console: Console) -> None:
    """Print a line per check, and below it each finding with its code and its fix."""
    for check in checks:
        status = Text(f"{check.status:<8} ", STYLES[check.status])
        console.print(Text.assemble(status, f"{check.name:<9} {', '.join(check.facts)}"), soft_wrap=True)
        for finding in check.findings:
            line = Text.assemble("         ", (f"{finding.code}  ", STYLES[finding.severity]), finding.message)
            console.print(line, soft_wrap=True)
            console.print(Text(f"         fix: {finding.fix}"), soft_wrap=True)
    count = sum(len(check.findings) for check in checks)
    console.print(f"doctor  {count or 'no'} finding{'' if count == 1 else 's'}", highlight=False)
