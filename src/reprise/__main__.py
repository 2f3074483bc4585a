"""`reprise` on a command line; the only place where an exception becomes an exit code."""

import contextlib
import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from reprise import config, distributed, parent_watchdog, terminal
from reprise.cli import cli
from reprise.cli.common import say
from reprise.config.plugins import make_importable
from reprise.errors import Notice, Stopped, UserError

SURROUNDINGS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG, errno.ENOTDIR}
"""Errors of the operating system that are the user's to mend: no room, no permission, a broken disk, a file for a folder."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line; the only place where an exception becomes an exit code."""
    terminal.protect()
    warnings.showwarning = _warn  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if "DVC_STAGE" in os.environ or distributed.has_parent():
        parent_watchdog.end_with_parent()
    with contextlib.suppress(UserError, OSError):  # outside a project: said by the commands that need one
        make_importable(config.project_root())
    try:
        outcome = cli.main(args=None if arguments is None else list(arguments), prog_name="reprise", standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0  # of `Exit`, which click turns into what it returns
    except click.exceptions.Exit as asked:
        code = asked.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        say(str(UserError(error.format_message().rstrip("."), f"see `{context.command_path if context else 'reprise'} --help`")))
        code = 2
    except UserError as error:
        if os.environ.get("REPRISE_DEBUG") == "1":
            raise
        say(str(error))
        code = 2
    except Stopped as stopped:
        say(str(stopped))
        code = stopped.exit_code
    except OSError as error:
        if error.errno not in SURROUNDINGS or os.environ.get("REPRISE_DEBUG") == "1":
            raise
        say(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
        code = 2
    sys.exit(code)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """What the user should know is one line; a warning of a library stays as it is."""
    if issubclass(category, Notice):
        say(str(message))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)  # once is enough: what follows is the closing of books
    raise Stopped(signum)


if __name__ == "__main__":
    main()
