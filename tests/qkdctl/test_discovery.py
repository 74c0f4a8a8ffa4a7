"""What may be an instrument here, or at a host."""

import asyncio
import re
from pathlib import Path

import pytest

from drivers.registry import driver_kinds
from qkdctl import discovery
from qkdctl.discovery import Found, discover


@pytest.fixture(autouse=True)
def _no_visa(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_visa_names", lambda: ())


async def test_serial_ports_are_listed_by_their_stable_names(tmp_path: Path) -> None:
    name = "usb-Thorlabs_Polarization_Controller_38000001-if00-port0"
    (tmp_path / name).touch()
    found, _ = await discover(serial_by_id=tmp_path)
    assert found == [Found(f"serial://{tmp_path}/{name}", "thorlabs-mpc320")]


async def test_a_serial_port_of_unknown_make_suggests_nothing(tmp_path: Path) -> None:
    (tmp_path / "usb-FTDI_FT232R-if00-port0").touch()
    found, _ = await discover(serial_by_id=tmp_path)
    assert [each.suggests for each in found] == [""]


async def test_nothing_is_found_where_there_is_nothing(tmp_path: Path) -> None:
    assert await discover(serial_by_id=tmp_path / "none") == ([], [])


async def test_a_port_that_accepts_is_found_with_what_it_suggests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setattr(discovery, "PORTS", {port: ("tcp", "some-kind")})
    async with server:
        found, _ = await discover(["127.0.0.1"], serial_by_id=tmp_path)
    assert found == [Found(f"tcp://127.0.0.1:{port}", "some-kind")]


async def test_a_host_that_is_not_known_is_no_error(tmp_path: Path) -> None:
    found, _ = await discover(["no-such-host.invalid"], serial_by_id=tmp_path)
    assert found == []


async def test_a_usb_instrument_suggests_its_vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = "USB0::0x1313::0x8078::P0000001::INSTR"
    monkeypatch.setattr(discovery, "_visa_names", lambda: (resource, "ASRL/dev/ttyS0::INSTR"))
    found, _ = await discover(serial_by_id=tmp_path)
    assert found == [Found(f"visa://{resource}", "Thorlabs, such as thorlabs-pm100d")]


async def test_a_visa_library_that_fails_is_a_remark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> tuple[str, ...]:
        raise ValueError("no library")

    monkeypatch.setattr(discovery, "_visa_names", fails)
    assert await discover(serial_by_id=tmp_path) == ([], ["VISA resources: no library"])


def test_every_kind_that_is_suggested_exists() -> None:
    suggestions = [*discovery.SERIAL_NAMES.values(), *discovery.USB_VENDORS.values()]
    suggestions += [text for _, text in discovery.PORTS.values()]
    words = [word.strip(",:") for text in suggestions for word in text.split()]
    kinds = {word for word in words if re.fullmatch(r"[a-z]+-[a-z]*\d*[a-z]*", word)}
    assert kinds
    assert kinds <= set(driver_kinds())
