"""Exceptions that end a command early (user errors, signals, pruning), and one-line notices."""

import re
import signal
import warnings


class UserError(Exception):
    """An error that the user can fix. Shown as one line, without passwords; exit code 2."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = (without_login(" ".join(part.split())) for part in (what, hint))
        super().__init__(f"{self.what}; {self.hint}" if hint else self.what)


class Stopped(BaseException):
    """A signal stopped the process; exit code 128 + its number. Not an `Exception`, so that no handler catches it by accident."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum
        self.exit_code = 128 + signum


class Pruned(Exception):  # noqa: N818 -- not an error
    """The sweep's pruner stopped a training early."""


def without_login(text: str) -> str:
    """Return the text without user names, passwords and tokens in its addresses."""
    text = re.sub(r"//\S*@", "//", text)
    return re.sub(r"(?i)([?&;](?:user|\w*(?:pass|pwd|secret|token|key)\w*)=)[^&;\s]*", r"\1", text)


class Notice(UserWarning):
    """A warning to the user, shown as one line; the command continues."""


def warn(text: str) -> None:
    """Issue a `Notice`, without passwords."""
    warnings.warn(without_login(" ".join(text.split())), Notice, stacklevel=3)
