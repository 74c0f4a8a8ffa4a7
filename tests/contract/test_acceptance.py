"""What ``qkdctl instruments test`` tries on a real unit, tried on every simulated one."""

from typing import Any

import pytest

from qkdctl.acceptance import Finding, Report, examine


async def examined(live: Any, **chosen: Any) -> Report:
    kind = live.unit.kind
    return await examine(
        live.driver,
        kind,
        "memory",
        inputs=live.inputs,
        is_state_source=live.is_state_source,
        **chosen,
    )


def failed(report: Report) -> list[Finding]:
    return [each for each in report.findings if each.outcome == "failed"]


@pytest.mark.simulated_only
def test_a_unit_that_works_passes(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        assert failed(await examined(live, drives=True)) == []

    unit_in_memory.run(story, opens=False)


@pytest.mark.simulated_only
def test_the_unit_is_left_safe(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        await examined(live, drives=True)
        assert await live.is_safe_soon()

    unit_in_memory.run(story, opens=False)


@pytest.mark.simulated_only
def test_another_model_fails_and_is_asked_no_more(unit_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        live.answer_as_another_model()
        report = await examined(live)
        assert [each.outcome for each in report.findings] == ["failed"]
        assert "you configured" in report.findings[0].detail

    unit_in_memory.run(story, opens=False)


@pytest.mark.simulated_only
def test_an_output_that_does_not_follow_fails(setter_in_memory: Any) -> None:
    async def story(live: Any) -> None:
        live.set_instead(setter_in_memory.manners.other)
        report = await examined(live, drives=True)
        assert failed(report)

    setter_in_memory.run(story, opens=False)
