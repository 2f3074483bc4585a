"""The result of a check: facts, and findings with a code and a fix."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from reprise.errors import UserError, without_login

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """A fault, and how to fix it."""

    code: str
    """A constant name of the fault, such as `disk-full`."""
    message: str
    fix: str
    severity: Severity = "error"
    """`error`: reprise does not work until it is fixed. `warning`: it works, but not as well as it could."""


@dataclass
class Check:
    """One part of the examination. A check function fills it."""

    name: str
    facts: list[str] = field(default_factory=list)
    """What was found, whether right or wrong."""
    findings: list[Finding] = field(default_factory=list)

    @property
    def status(self) -> str:
        """`ok`, `warning` or `error`: the worst finding."""
        severities = {finding.severity for finding in self.findings}
        return "error" if "error" in severities else "warning" if severities else "ok"

    def error(self, code: str, message: str, fix: str) -> None:
        """Add a finding of severity `error`."""
        self.findings.append(Finding(code, without_login(message), fix))

    def warning(self, code: str, message: str, fix: str) -> None:
        """Add a finding of severity `warning`."""
        self.findings.append(Finding(code, without_login(message), fix, "warning"))

    def refusal(self, code: str, error: UserError, fix: str = "") -> None:
        """Add an error that another command would report, with its hint as the fix unless it has none."""
        self.findings.append(Finding(code, error.what, error.hint or fix))


def run_checks(checks: dict[str, Callable[[Check], None]]) -> Iterator[Check]:
    """Run each check function and yield its result. A file that cannot be read is a finding too, and ends no other check."""
    for name, examine in checks.items():
        check = Check(name)
        try:
            examine(check)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            check.error(f"{name}-unreadable", f"{where}{error.strerror or error}", "correct its permissions, or delete it")
        yield check
