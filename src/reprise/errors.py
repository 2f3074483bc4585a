"""What ends a command early: a user's error in one line, or a signal; and what is only said."""

import re
import signal
import warnings


class UserError(Exception):
    """Something the user or the surroundings must mend; shown as one line, without passwords, exit code 2."""

    def __init__(self, what: str, hint: str = "") -> None:
        line = " ".join(what.split())
        super().__init__(without_login(f"{line}; {' '.join(hint.split())}" if hint else line))


class Stopped(BaseException):
    """A signal asked the process to stop; exit code 128 + its number. Not an `Exception`: nothing may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Pruned(Exception):  # noqa: N818 -- no error: a training that promises too little is given up
    """A sweep has seen enough of a training."""


def without_login(text: str) -> str:
    """A text as it may be printed or kept: without the user names, passwords and tokens in its addresses."""
    text = re.sub(r"//\S*@", "//", text)
    return re.sub(r"(?i)([?&;](?:user|\w*(?:pass|pwd|secret|token|key)\w*)=)[^&;\s]*", r"\1", text)


class Notice(UserWarning):
    """Something the user should know, though the command goes on; shown as one line."""


def warn(text: str) -> None:
    """Tell the user, without passwords."""
    warnings.warn(without_login(" ".join(text.split())), Notice, stacklevel=3)
