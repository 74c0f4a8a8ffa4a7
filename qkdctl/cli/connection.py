"""How a command reaches its daemon, and how it ends when that fails."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from qkdctl.client import (
    DaemonClient,
    DaemonError,
    NotReachedError,
    SeveralDaemonsError,
    find_daemon,
)

FAILED, WRONG_USAGE, NOT_REACHED = 1, 2, 3
"""Exit statuses; 0 is done."""


class Failure(click.ClickException):
    """Ends a command with one clear line on stderr."""

    exit_code = FAILED

    def __init__(self, message: object) -> None:
        super().__init__(str(message))

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"error: {self.message}", file=file, err=True)


class WrongUsage(Failure):
    """The command does not say clearly what it wants."""

    exit_code = WRONG_USAGE


class NotReached(Failure):
    """There is no daemon to ask."""

    exit_code = NOT_REACHED


P = ParamSpec("P")


def with_daemon(command: Callable[Concatenate[DaemonClient, P], None]) -> Callable[P, None]:
    """Add the options that choose a daemon, connect, and pass the client first."""

    @click.option("--link", metavar="NAME", envvar="QKDCTL_LINK", help="Link whose daemon to ask.")
    @click.option("--socket", type=click.Path(path_type=Path), help="Its control socket instead.")
    @wraps(command)
    def connected(*args: P.args, **kwargs: P.kwargs) -> None:
        link, path = kwargs.pop("link"), kwargs.pop("socket")
        try:
            with DaemonClient(find_daemon(path, link)) as daemon:  # type: ignore[arg-type] # click gives them these types
                command(daemon, *args, **kwargs)
        except SeveralDaemonsError as exc:
            raise WrongUsage(exc) from exc
        except NotReachedError as exc:
            raise NotReached(exc) from exc
        except DaemonError as exc:
            raise Failure(exc) from exc

    return connected


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
