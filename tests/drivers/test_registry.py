"""Drivers are found by their kind, ours and those of other distributions."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from drivers import registry
from drivers.registry import Options, driver_entry, driver_kinds, register


class SwitchOptions(Options):
    ports: int = 2


@pytest.fixture(autouse=True)
def empty_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "entry_points", lambda **_: [])


def make_driver() -> Any:
    driver: Any = type("AcmeSwitch", (), {"__doc__": "An optical switch by Acme.\n\nMore."})
    return register("acme-switch", SwitchOptions)(driver)


def test_a_registered_driver_is_found_by_its_kind() -> None:
    driver = make_driver()

    entry = driver_entry("acme-switch")

    assert entry.build is driver
    assert entry.options is SwitchOptions
    assert entry.summary == "An optical switch by Acme."
    assert driver_kinds() == ["acme-switch"]


def test_a_driver_of_another_distribution_is_imported_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    point = SimpleNamespace(name="acme-switch", load=make_driver)
    monkeypatch.setattr(
        registry, "entry_points", lambda group, name=point.name: [point] * (name == point.name)
    )

    assert driver_kinds() == ["acme-switch"]
    assert driver_entry("acme-switch").options is SwitchOptions


def test_an_unknown_kind_is_told_the_known_ones() -> None:
    make_driver()

    with pytest.raises(KeyError, match="no driver of kind 'acme-swich'; known kinds: acme-switch"):
        driver_entry("acme-swich")


def test_options_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="port"):
        SwitchOptions.model_validate({"port": 3})


def test_looking_up_drivers_does_not_import_the_visa_library() -> None:
    program = "import sys, drivers.registry; sys.exit('pyvisa' in sys.modules)"

    assert subprocess.call([sys.executable, "-c", program]) == 0  # our own words
