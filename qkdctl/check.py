"""``qkdctl check``: find every mistake in a testbed file, then see whether the bench answers."""

import asyncio
import json
import sys
from pathlib import Path

from drivers.errors import InstrumentError, SettingError
from drivers.transport.connect import Connector
from qkdctl.config import Problem, Testbed, TestbedFileError, load_testbed
from qkdctl.testbed import OpenTestbed

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def run_check(path: Path, *, connect: bool, as_json: bool) -> int:
    """Check a testbed file and print what was found.

    Args:
        path: The file.
        connect: Also open each instrument and ask who it is.
        as_json: Print one JSON object instead of text.

    Returns:
        Exit status: 0 fit for use, 1 an instrument does not answer, 2 mistakes in the file.
    """
    identities: dict[str, str] = {}
    try:
        bench = build(path, load_testbed(path), Connector())
    except TestbedFileError as exc:
        problems, status = exc.problems, EXIT_USAGE
    else:
        problems = asyncio.run(_identify(path, bench, identities)) if connect else []
        status = EXIT_FAILED if problems else EXIT_DONE
    if as_json:
        report = {
            "file": str(path),
            "ok": not problems,
            "identities": identities,
            "problems": [vars(problem) for problem in problems],
        }
        sys.stdout.write(json.dumps(report) + "\n")
        return status
    for name, identity in identities.items():
        sys.stdout.write(f"{name}: {identity}\n")
    for problem in problems:
        sys.stderr.write(f"error: {problem}\n")
    if not problems:
        sys.stdout.write(f"{path}: fit for use\n")
    return status


def build(path: Path, config: Testbed, connector: Connector) -> OpenTestbed:
    """Build a bench without opening it, so that mistakes only drivers can see come to light.

    Raises:
        TestbedFileError: A resource, a limit or a role does not fit.
    """
    try:
        return OpenTestbed(config, connector, now=lambda: 0.0)
    except SettingError as exc:
        raise TestbedFileError(
            [Problem(f"{path}: {exc.instrument}", exc.problem, "correct the file")]
        ) from None
    except ValueError as exc:
        raise TestbedFileError([Problem(str(path), str(exc), "correct the file")]) from None


async def _identify(path: Path, bench: OpenTestbed, identities: dict[str, str]) -> list[Problem]:
    problems = []
    for name, instrument in bench.instruments.items():
        where = f"{path}: instruments.{name}"
        try:
            identities[name] = str(await instrument.open())
        except InstrumentError as exc:
            cure = "check its power, its cable and the resource"
            problems.append(Problem(where, exc.problem, cure))
    await bench.close()
    return problems
