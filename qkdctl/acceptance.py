"""What a driver must do on a real instrument, as far as it is safe to try; and a report of it."""

import asyncio
import platform
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import qkdctl
from drivers.errors import InstrumentError, SettingError, TransportError
from drivers.roles import (
    Instrument,
    PhotonCounter,
    PowerMeter,
    TemperatureController,
    TimeTagger,
    roles_of,
)
from drivers.settable import Settable, settables

CHECK_TIMEOUT_S = 120.0
"""Longest time for one check: some instruments move for that long."""

EXPOSURE_S = 0.1
CALLERS = 4

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    Attributes:
        check: What was to be seen, as a sentence.
        outcome: Whether it was.
        detail: What was seen.
    """

    check: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Report:
    """What came of all of them.

    Attributes:
        kind: Kind of instrument.
        resource: Where it was found.
        identity: Who it said it is, or None.
        roles: What its driver can do.
        findings: One for each check.
        health: How the link fared.
        versions: Of qkdctl, Python and the system.
        trace: The traffic, one line a chunk, if it was kept.
    """

    kind: str
    resource: str
    identity: str | None
    roles: Sequence[str]
    findings: Sequence[Finding]
    health: dict[str, Any]
    versions: dict[str, str]
    trace: Sequence[str] = field(default=())

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return all(each.outcome != "failed" for each in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {**asdict(self), "is_good": self.is_good}


class Subject:
    """The driver under test, and what the checks share.

    Args:
        driver: The driver.
        inputs: Inputs of a counter or tagger to measure.
        is_state_source: Whether it is set up as Alice's encoder.
    """

    def __init__(self, driver: Instrument, inputs: Sequence[int], *, is_state_source: bool) -> None:
        self.driver = driver
        self.inputs = inputs
        self.outputs = settables(driver, is_state_source=is_state_source)
        self.identity: str | None = None


class NotApplicableError(Exception):
    """The check says nothing about this instrument; the text says why."""


Check = Callable[[Subject], Awaitable[str]]


async def examine(
    driver: Instrument,
    kind: str,
    resource: str,
    *,
    inputs: Sequence[int] = (),
    is_state_source: bool = True,
    drives: bool = False,
    told: Callable[[Finding], None] = lambda finding: None,
) -> Report:
    """Go through the checks; the instrument is made safe before and after.

    Args:
        driver: The driver, not open yet.
        kind: Its kind.
        resource: Its resource.
        inputs: Inputs of a counter or tagger to measure.
        is_state_source: Whether it is set up as Alice's encoder.
        drives: Also take every output to its limits.
        told: Is told each finding as it is made.
    """
    subject = Subject(driver, inputs, is_state_source=is_state_source)
    findings = [await _carry_out("it opens and says who it is", _opens, subject)]
    told(findings[0])
    if findings[0].outcome == "passed":
        for sentence, check in _checks(drives=drives):
            findings.append(await _carry_out(sentence, check, subject))
            told(findings[-1])
    await _close(driver)
    return Report(
        kind,
        resource,
        subject.identity,
        roles_of(type(driver)),
        findings,
        asdict(driver.health()),
        {
            "qkdctl": qkdctl.__version__,
            "python": platform.python_version(),
            "system": platform.system(),
        },
    )


def _checks(*, drives: bool) -> list[tuple[str, Check]]:
    return [
        ("it can be made safe", _makes_safe),
        ("it says the same of itself again", _identifies_again),
        ("every output can be read", _reads_outputs),
        ("impossible values are refused and nothing is sent", _refuses_the_impossible),
        ("an output set to what it reads is confirmed", _confirms_the_present),
        *([("every output reaches its limits", _drives_outputs)] if drives else []),
        ("it measures", _measures),
        ("callers at the same time each get their own answer", _serves_many),
        ("a cancelled exchange does not disturb the next", _survives_cancellation),
        ("a closed link is told, and can be opened again", _reopens),
        ("it can be made safe at the end", _makes_safe),
    ]


async def _carry_out(sentence: str, check: Check, subject: Subject) -> Finding:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return Finding(sentence, "passed", await check(subject))
    except NotApplicableError as exc:
        return Finding(sentence, "skipped", str(exc))
    except TimeoutError:
        return Finding(sentence, "failed", f"not done within {CHECK_TIMEOUT_S:g} s")
    except (InstrumentError, _FailedError) as exc:
        return Finding(sentence, "failed", str(exc))


class _FailedError(Exception):
    """What was to be seen was not."""


async def _close(driver: Instrument) -> None:
    try:
        await driver.close()
    except InstrumentError:
        return  # the link is gone, which the findings tell


async def _opens(subject: Subject) -> str:
    subject.identity = str(await subject.driver.open())
    return subject.identity


async def _makes_safe(subject: Subject) -> str:
    await subject.driver.make_safe()
    return "done"


async def _identifies_again(subject: Subject) -> str:
    again = str(await subject.driver.identify())
    if again != subject.identity:
        raise _FailedError(f"it now says {again}")
    round_trip_s = subject.driver.health().last_round_trip_s
    return "" if round_trip_s is None else f"last answer after {1000 * round_trip_s:.1f} ms"


async def _reads_outputs(subject: Subject) -> str:
    read = {output.name: await output.read() for output in _needed(subject.outputs)}
    return ", ".join(f"{name} {value}" for name, value in read.items())


async def _refuses_the_impossible(subject: Subject) -> str:
    before = subject.driver.health().exchanges
    n = 0
    for output in _needed(subject.outputs):
        for value in output.impossible:
            n += 1
            await _must_be_refused(output, value)
    if subject.driver.health().exchanges != before:
        raise _FailedError("something was sent")
    return f"{n} values"


async def _must_be_refused(output: Settable, value: object) -> None:
    try:
        await output.set(value)
    except SettingError:
        return
    raise _FailedError(f"{output.name} took {value!r}")


async def _confirms_the_present(subject: Subject) -> str:
    for output in _needed(subject.outputs):
        value = await output.read()
        confirmed = await output.set(value)
        if not output.agrees(confirmed, value):
            raise _FailedError(f"{output.name} read {value}, was set to it, and reads {confirmed}")
    return f"{len(subject.outputs)} outputs"


async def _drives_outputs(subject: Subject) -> str:
    try:
        for output in _needed(subject.outputs):
            for value in output.values:
                confirmed = await output.set(value)
                if not output.agrees(confirmed, value):
                    raise _FailedError(f"{output.name} was set to {value} and reads {confirmed}")
    finally:
        await subject.driver.make_safe()
    return f"{len(subject.outputs)} outputs"


async def _measures(subject: Subject) -> str:
    driver, inputs = subject.driver, subject.inputs
    seen = []
    if isinstance(driver, PhotonCounter):
        counts = await driver.count(EXPOSURE_S, inputs)
        seen.append(f"counts {dict(counts.by_input)} in {counts.duration_s:g} s")
    if isinstance(driver, TimeTagger):
        tags = await driver.acquire(EXPOSURE_S, inputs)
        sizes = {n: int(each.size) for n, each in tags.since_sync_ps.items()}
        seen.append(f"tags {sizes} in {tags.duration_s:g} s")
    if isinstance(driver, PowerMeter):
        seen.append(f"{await driver.read_power():.4g} W")
    if isinstance(driver, TemperatureController):
        seen.append(f"{await driver.read_temperature():.2f} degrees Celsius")
    if not seen:
        raise NotApplicableError("it measures nothing")
    return ", ".join(seen)


async def _serves_many(subject: Subject) -> str:
    async def read(output: Settable) -> None:
        await output.read()

    try:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(subject.driver.identify()) for _ in range(CALLERS)]
            for output in subject.outputs:
                tasks.create_task(read(output))
    except BaseExceptionGroup as group:
        failures, others = group.split(InstrumentError)
        if others or not failures:
            raise
        raise _FailedError("; ".join(map(str, failures.exceptions))) from group
    if any(str(each.result()) != subject.identity for each in asked):
        raise _FailedError("one of them got somebody else's answer")
    return f"{len(asked) + len(subject.outputs)} callers"


async def _survives_cancellation(subject: Subject) -> str:
    async with asyncio.TaskGroup() as tasks:
        cut_short = tasks.create_task(subject.driver.identify())
        await asyncio.sleep(0.001)
        cut_short.cancel()
    await _identifies_again(subject)
    return "done"


async def _reopens(subject: Subject) -> str:
    await subject.driver.close()
    try:
        await subject.driver.identify()
    except TransportError:
        pass
    else:
        raise _FailedError("it answered though its link is closed")
    await subject.driver.open()
    return await _identifies_again(subject)


def _needed(outputs: Sequence[Settable]) -> Sequence[Settable]:
    if not outputs:
        raise NotApplicableError("it has no outputs")
    return outputs
