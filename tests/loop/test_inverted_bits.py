"""A link whose bits are inverted in software, through acceptance, tracking and restarts."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from qkdctl.history import History, HistoryError
from qkdctl.verbs import VERBS, OperationError

Run = Callable[..., Any]

SEED, BITS = 1003, ["Z"]
"""A link that is aligned with these bits inverted; another sampler may choose others for it."""


def inverting(document: dict[str, Any]) -> None:
    """Let bits be inverted, in little light, so that photons are soon drawn."""
    document["stages"]["polarization"]["may_invert"] = True
    document["tracking"]["window_s"] = 1.0
    document["simulation"]["loss_db"] = 25.0
    document["receiver"]["expected_rate_hz"] = 2e4
    del document["stages"]["attenuation"]


def never_inverting(document: dict[str, Any]) -> None:
    inverting(document)
    document["stages"]["polarization"]["may_invert"] = False


def wrong_bases(laboratory: Any) -> list[str]:
    """Name the bases whose bits all arrive wrong, as the bench knows."""
    rotation = laboratory.bench.twin.rotation(asyncio.get_running_loop().time())
    return [basis for number, basis in enumerate("ZX") if rotation[number, number] < 0]


async def look(laboratory: Any) -> dict[str, Any]:
    """Note what the daemon says, and what is true."""
    await asyncio.sleep(5)
    status = await laboratory.daemon.status()
    VERBS["status"].result.validate_python(status)
    return {
        "state": status["state"],
        "qber": status["qber"]["value"] if status["qber"] else None,
        "inverted": status["inverted"],
        "wrong": wrong_bases(laboratory),
    }


def true_delays_ps(laboratory: Any) -> dict[str, float]:
    """Return the delays of the detectors as they are wired, whatever their bits stand for."""
    delays_ps = laboratory.bench.twin.settings.receiver.delay_ps
    return {f"receiver.delays_ps.{d}": ps for d, ps in zip("HVDA", delays_ps, strict=True)}


def held(inverted: list[str]) -> dict[str, Any]:
    """Describe a link that is held with bits inverted where they arrive wrong."""
    return {
        "state": "tracking",
        "qber": pytest.approx(0.01, abs=0.01),
        "inverted": inverted,
        "wrong": inverted,
    }


async def outcome_of(calibration: Any) -> str:
    try:
        return str(await calibration)
    except OperationError as exc:
        return str(exc)


def of_kind(laboratory: Any, kind: str) -> list[dict[str, Any]]:
    return [event for event in laboratory.events if event["kind"] == kind]


def test_a_link_is_aligned_and_held_with_inverted_bits_and_says_so(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        report = await laboratory.calibrate("polarization")
        VERBS["calibrate"].result.validate_python(report)
        (seen["result"],) = report["results"]
        seen["held"] = await look(laboratory)
        seen["events"] = (await laboratory.daemon.history("events", 100, 0.0))["rows"]

    laboratory = run_laboratory(story, seed=SEED, change=inverting)

    assert (seen["result"]["outcome"], seen["result"]["inverted"]) == ("accepted", BITS)
    assert seen["result"]["qber_after"]["high"] < 0.02
    assert seen["held"] == held(BITS)
    assert [event["inverted"] for event in of_kind(laboratory, "inverted")] == [BITS]
    assert [row["inverted"] for row in seen["events"] if row["kind"] == "inverted"] == [BITS]
    windows = of_kind(laboratory, "window")
    assert (windows[0]["inverted"], windows[-1]["inverted"]) == ([], BITS)
    assert of_kind(laboratory, "alarm") == []


def test_bits_stay_inverted_over_restarts_as_long_as_the_file_allows_it(
    run_laboratory: Run,
) -> None:
    seen: dict[str, Any] = {}

    async def first(laboratory: Any) -> None:
        await laboratory.calibrate("polarization")

    async def second(laboratory: Any) -> None:
        seen["held"] = await look(laboratory)
        seen["results"] = (await laboratory.calibrate("delay"))["results"]
        seen["results"] += (await laboratory.calibrate())["results"]

    async def third(laboratory: Any) -> None:
        seen["forbidden"] = await look(laboratory)

    run_laboratory(first, seed=SEED, change=inverting)
    restarted = run_laboratory(second, seed=SEED, change=inverting)
    run_laboratory(third, seed=SEED, change=never_inverting)

    assert seen["held"] == held(BITS)
    assert of_kind(restarted, "alarm") == []
    outcomes = [result["outcome"] for result in seen["results"]]
    assert outcomes == ["accepted", "skipped", "skipped"]
    assert seen["results"][-1]["inverted"] == BITS
    delays_ps = seen["results"][0]["setting"]
    assert delays_ps == pytest.approx(true_delays_ps(restarted), abs=60)
    assert (seen["forbidden"]["state"], seen["forbidden"]["inverted"]) == ("idle", [])


@pytest.mark.parametrize(
    ("last_write", "inverted"), [("add_good_setting", []), ("add_learnt", BITS)]
)
def test_a_crash_after_acceptance_never_parts_bits_from_their_setting(
    run_laboratory: Run, monkeypatch: pytest.MonkeyPatch, last_write: str, inverted: list[str]
) -> None:
    seen: dict[str, Any] = {}

    async def fail(*arguments: Any) -> None:
        raise HistoryError("the disk is full")

    async def crashing(laboratory: Any) -> None:
        monkeypatch.setattr(History, last_write, fail)
        await laboratory.calibrate("polarization")

    async def restarted(laboratory: Any) -> None:
        status = await laboratory.daemon.status()
        seen["inverted"] = status["inverted"]
        seen["is_restored"] = "restored the good setting" in status["reason"]

    with pytest.raises(BaseExceptionGroup, match="unhandled errors"):
        run_laboratory(crashing, seed=SEED, change=inverting)
    monkeypatch.undo()
    run_laboratory(restarted, seed=SEED, change=inverting)

    assert seen == {"inverted": inverted, "is_restored": inverted != []}


def test_a_realignment_inverts_beside_what_is_inverted_already(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate("polarization")
        laboratory.bench.jump([0.5, 2.0, 0.3])
        await laboratory.wait_for(lambda: len(of_kind(laboratory, "ended")) == 2, 60)
        seen["held"] = await look(laboratory)

    laboratory = run_laboratory(story, seed=SEED, change=inverting)

    assert [event["name"] for event in of_kind(laboratory, "alarm")] == ["loss-of-lock"]
    told = [event["inverted"] for event in of_kind(laboratory, "inverted")]
    assert len(told) == 2
    assert told[-1] not in ([], BITS)
    assert seen["held"] == held(told[-1])


def test_a_cancelled_alignment_leaves_bits_as_they_were(run_laboratory: Run) -> None:
    seen: dict[str, Any] = {}

    async def story(laboratory: Any) -> None:
        await laboratory.calibrate("polarization")
        async with asyncio.TaskGroup() as tasks:
            second = tasks.create_task(outcome_of(laboratory.calibrate("polarization")))
            await laboratory.wait_for(lambda: searched(laboratory) > 0, 60)
            second.cancel()
        seen["held"] = await look(laboratory)

    run_laboratory(story, seed=SEED, change=inverting)

    assert seen["held"] == held(BITS)


def searched(laboratory: Any) -> int:
    """Count the windows that searches have taken with inverted bits."""
    events = laboratory.events
    since = [number for number, event in enumerate(events) if event["kind"] == "inverted"]
    after = events[since[0] :] if since else []
    return sum(event["kind"] == "progress" and event["phase"] == "search" for event in after)
