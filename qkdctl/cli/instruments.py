"""``qkdctl instruments``: the daemon's own, kinds on offer, and single ones without a daemon."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qkdctl.cli import text
from qkdctl.cli.connection import Failure, WrongUsage, as_json, with_daemon
from qkdctl.client import DaemonClient

if TYPE_CHECKING:
    from qkdctl.acceptance import Finding

kind_argument = click.argument("kind")
resource_argument = click.argument("resource")
option = click.option(
    "--option",
    "-o",
    "words",
    multiple=True,
    metavar="NAME=VALUE",
    help="What a testbed file would say beside kind and resource; may be repeated.",
)
OUTCOMES = {"passed": "ok  ", "failed": "FAIL", "skipped": "-   "}


@click.group(invoke_without_command=True)
@as_json
@click.option("--link", metavar="NAME", envvar="QKDCTL_LINK", help="Link whose daemon to ask.")
@click.option("--socket", type=click.Path(path_type=Path), help="Its control socket instead.")
@click.pass_context
def instruments(ctx: click.Context, as_json: bool, link: str | None, socket: Path | None) -> None:
    """List a daemon's instruments; or, with a command, deal with kinds and single instruments."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(_of_daemon, as_json=as_json, link=link, socket=socket)


@with_daemon
def _of_daemon(daemon: DaemonClient, as_json: bool) -> None:
    found = daemon.call("instruments")
    if as_json:
        click.echo(json.dumps({"instruments": found}))
        return
    rows = [
        (
            entry["name"],
            "ok" if entry["ok"] else "FAILS",
            entry["kind"],
            entry["resource"],
            f"{entry['health'].get('errors', 0)} of {entry['health'].get('exchanges', 0)}",
            entry["identity"] or text.UNKNOWN,
        )
        for entry in found
    ]
    click.echo(text.table(("NAME", "LINK", "KIND", "RESOURCE", "ERRORS", "IDENTITY"), rows))


@instruments.command("list")
@as_json
def list_kinds(as_json: bool) -> None:
    """List the kinds of instrument that there are drivers for."""
    from drivers.registry import driver_entry, driver_kinds
    from drivers.roles import roles_of

    entries = [driver_entry(kind) for kind in driver_kinds()]
    kinds = [
        {
            "kind": entry.kind,
            "summary": entry.summary,
            "roles": list(roles_of(entry.driver)),
            "wires": list(entry.wires),
            "certainty": entry.certainty,
            "options": list(entry.options.model_fields),
        }
        for entry in entries
    ]
    if as_json:
        click.echo(json.dumps({"kinds": kinds}))
        return
    rows = [
        (
            str(each["kind"]),
            ", ".join(each["roles"]) or "outputs only",
            ", ".join(each["wires"]) or text.UNKNOWN,
            str(each["certainty"]),
            str(each["summary"]),
        )
        for each in kinds
    ]
    click.echo(text.table(("KIND", "ROLES", "WIRES", "CERTAINTY", "WHAT IT IS"), rows))


@instruments.command()
@click.option("--host", "hosts", multiple=True, help="Also try the known ports of this host.")
@as_json
def scan(hosts: Sequence[str], as_json: bool) -> None:
    """Look for instruments here and at named hosts; nothing is said to them."""
    from qkdctl.discovery import run_scan

    found, remarks = run_scan(hosts)
    for remark in remarks:
        click.echo(f"note: {remark}", err=True)
    if as_json:
        click.echo(json.dumps({"found": [vars(each) for each in found], "remarks": remarks}))
        return
    rows = [(each.resource, each.suggests or text.UNKNOWN) for each in found]
    click.echo(text.table(("RESOURCE", "MAY BE"), rows) if rows else "nothing found")


@instruments.command()
@kind_argument
@resource_argument
@option
@as_json
def identify(kind: str, resource: str, words: Sequence[str], as_json: bool) -> None:
    """Open one instrument as its driver does, and tell who it says it is."""
    from qkdctl.single import run_identify

    with _one_line_errors():
        identity = run_identify(kind, resource, words)
    found = {"kind": kind, "resource": resource, **vars(identity)}
    click.echo(json.dumps(found) if as_json else str(identity))


@instruments.command()
@kind_argument
@resource_argument
@option
@click.option("--drive", is_flag=True, help="Also take every output to its limits.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Write a report to send."
)
@as_json
def test(
    kind: str,
    resource: str,
    words: Sequence[str],
    drive: bool,
    report: Path | None,
    as_json: bool,
) -> None:
    """Try on one real instrument what its driver promises, as far as that is safe.

    The instrument is made safe before and after: light is shut, voltages go to rest. With --drive
    its outputs go to their limits: disconnect the fibre to the detectors first.
    """
    from qkdctl.single import run_acceptance

    with _one_line_errors():
        told = (lambda finding: None) if as_json else _show
        found = run_acceptance(kind, resource, words, drives=drive, told=told).as_dict()
    if report is not None:
        _write(report, json.dumps(found, indent=2) + "\n")
    if as_json:
        click.echo(json.dumps(found))
    elif report is not None:
        click.echo(f"report written to {report}")
    sys.exit(0 if found["is_good"] else 1)


@instruments.command()
@kind_argument
@resource_argument
@option
def trace(kind: str, resource: str, words: Sequence[str]) -> None:
    """Show every byte while one instrument is opened, identified and read."""
    from qkdctl.single import run_trace

    with _one_line_errors():
        run_trace(kind, resource, words, sys.stdout)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """End the command with one line where the words are wrong or the instrument fails."""
    from drivers.errors import InstrumentError, SettingError
    from qkdctl.single import SingleError

    try:
        yield
    except (SingleError, SettingError) as exc:
        raise WrongUsage(exc) from exc
    except InstrumentError as exc:
        raise Failure(exc) from exc


def _show(finding: "Finding") -> None:
    detail = f": {finding.detail}" if finding.detail else ""
    click.echo(f"{OUTCOMES[finding.outcome]} {finding.check}{detail}")


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as exc:
        raise Failure(f"the report cannot be written: {exc}") from exc
