"""No driver escapes the suite."""

from typing import Any

import pytest


def test_every_kind_of_driver_has_a_simulated_twin(twins: Any, kind: str) -> None:
    complaint = twins.complaint(kind)
    if complaint is not None:
        pytest.fail(complaint)


def test_a_kind_without_a_twin_is_told_what_it_lacks(twins: Any) -> None:
    assert "'no-such-kind'" in twins.complaint("no-such-kind")
