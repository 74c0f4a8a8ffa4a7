"""``qkdctl feed``: what the QKD stack posts, in files: check them, post them again."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from qkdctl.cli.connection import Failure, NotReached, WrongUsage, as_json

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.group()
def feed() -> None:
    """Check and replay what a QKD stack posts (docs/feed.md)."""


@feed.command()
@file_argument
@as_json
def check(file: Path, as_json: bool) -> None:
    """Read FILE, a message per line, and name the first fault with its line."""
    from qkdctl.feed_replay import FeedFileError, check_file

    try:
        found = check_file(file)
    except FeedFileError as exc:
        raise Failure(exc) from exc
    if as_json:
        click.echo(json.dumps(asdict(found)))
        return
    if found.first_s is None or found.last_s is None:
        click.echo(f"{file}: no messages")
        return
    kinds = ", ".join(f"{count} {origin}" for origin, count in sorted(found.by_origin.items()))
    lasted_s = found.last_s - found.first_s
    click.echo(f"{file}: {found.messages} messages ({kinds}) over {lasted_s:.6g} s")


@feed.command()
@file_argument
@click.option("--link", metavar="NAME", envvar="QKDCTL_LINK", help="Link whose daemon takes them.")
@click.option("--socket", type=click.Path(path_type=Path), help="Socket of its feed instead.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How much faster than they came.",
)
@as_json
def replay(file: Path, link: str | None, socket: Path | None, speed: float, as_json: bool) -> None:
    """Post the messages in FILE to a daemon, in their own time or faster, as if measured now."""
    from qkdctl.client import NotReachedError, SeveralDaemonsError, find_daemon
    from qkdctl.feed_replay import FeedFileError, FeedRefusedError
    from qkdctl.feed_replay import replay as post
    from qkdctl.paths import feed_path

    try:
        path = socket or feed_path(find_daemon(None, link))
        posted = post(file, path, speed=speed)
    except SeveralDaemonsError as exc:
        raise WrongUsage(exc) from exc
    except (NotReachedError, FeedRefusedError) as exc:
        raise NotReached(exc) from exc
    except FeedFileError as exc:
        raise Failure(exc) from exc
    refusals = f", {posted.refused} refused" if posted.refused else ""
    click.echo(json.dumps(asdict(posted)) if as_json else f"{posted.accepted} taken{refusals}")
    if posted.first_refusal is not None:
        raise Failure(posted.first_refusal)


@feed.command()
def schema() -> None:
    """Print the JSON schema of a message."""
    from qkdctl.feed import schema as message_schema

    click.echo(json.dumps(message_schema(), indent=2))
