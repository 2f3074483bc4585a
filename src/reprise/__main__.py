"""Entry point of the `reprise` command; the only place that converts exceptions to exit codes."""

import contextlib
import errno
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from reprise import config, distributed, parent_watchdog, terminal
from reprise.cli import cli
from reprise.cli.common import print_message
from reprise.config.plugins import make_importable
from reprise.errors import Notice, Stopped, UserError

USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG, errno.ENOTDIR}
"""Operating system errors that the user can fix: full disk, missing permission, I/O error, a file in place of a folder."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit with its exit code."""
    terminal.protect()
    warnings.showwarning = _warn  # type: ignore[assignment]
    sys.unraisablehook = _unraisable
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if "DVC_STAGE" in os.environ or distributed.has_parent():
        parent_watchdog.end_with_parent()
    with contextlib.suppress(UserError, OSError):  # outside a project: commands that need one report it
        make_importable(config.project_root())
    try:
        outcome = cli.main(args=None if arguments is None else list(arguments), prog_name="reprise", standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0  # click returns the exit code of `Exit`
    except click.exceptions.Exit as exit_request:
        code = exit_request.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "reprise"
        print_message(str(UserError(error.format_message().rstrip("."), f"see `{command} --help`")))
        code = 2
    except UserError as error:
        if os.environ.get("REPRISE_DEBUG") == "1":
            raise
        print_message(str(error))
        code = 2
    except Stopped as stopped:
        print_message(str(stopped))
        code = stopped.exit_code
    except OSError as error:
        if error.errno not in USER_ERRNOS or os.environ.get("REPRISE_DEBUG") == "1":
            raise
        print_message(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
        code = 2
    gc.freeze()  # a last collection of every object that PyTorch and MLflow made takes a second
    sys.exit(code)


def _warn(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
    """Print a `Notice` as one line, and warnings of libraries in Python's format."""
    if issubclass(category, Notice):
        print_message(str(message))
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _unraisable(arguments: Any) -> None:
    """Send a signal again that arrived within a destructor or a callback of a weak reference: Python drops their exceptions."""
    if isinstance(stopped := arguments.exc_value, Stopped):
        signal.signal(stopped.signum, _stop)
        threading.Timer(
            0.05, os.kill, (os.getpid(), stopped.signum)
        ).start()  # later: exceptions of this hook are dropped as well
    else:
        sys.__unraisablehook__(arguments)


def _stop(signum: int, _: FrameType | None) -> NoReturn:
    signal.signal(signum, signal.SIG_IGN)  # a second signal must not interrupt the cleanup
    raise Stopped(signum)


if __name__ == "__main__":
    main()
