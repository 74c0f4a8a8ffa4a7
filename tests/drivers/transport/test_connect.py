"""Resource strings: each kind is understood, and a wrong one is told how to be written."""

import pytest

from drivers.errors import SettingError
from drivers.transport.connect import Connector
from drivers.transport.memory import MemoryChannel
from drivers.transport.serial import SerialChannel
from drivers.transport.tcp import TcpChannel
from drivers.transport.threaded import ThreadedChannel
from drivers.transport.zeromq import ZeroMqChannel


@pytest.mark.parametrize(
    ("resource", "kind"),
    [
        ("tcp://voa.lab:5025", TcpChannel),
        ("tcp://[fe80::1]:5025", TcpChannel),
        ("serial:///dev/ttyUSB0", SerialChannel),
        ("serial:///dev/serial/by-id/usb-OZ_Optics-if00", SerialChannel),
        ("socket://10.0.0.5:4001", ThreadedChannel),
        ("rfc2217://10.0.0.5:4001", ThreadedChannel),
        ("serial+socket://10.0.0.5:4001", ThreadedChannel),
        ("visa://TCPIP0::voa.lab::5025::SOCKET", ThreadedChannel),
        ("visa://USB0::0x1313::0x8078::P0001234::INSTR", ThreadedChannel),
        ("visa://GPIB0::20::INSTR", ThreadedChannel),
        ("visa://ASRL/dev/ttyUSB0::INSTR", ThreadedChannel),
        ("zmq://id900.lab:5555", ZeroMqChannel),
        ("zmq-pair://id900.lab:4242", ZeroMqChannel),
        ("memory:voa", MemoryChannel),
    ],
)
def test_each_kind_of_resource_is_understood(resource: str, kind: type) -> None:
    connector = Connector(memory={"voa": MemoryChannel})

    assert isinstance(connector.channel("voa", resource), kind)


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "voa.lab:5025",
        "tcp://voa.lab",
        "tcp://:5025",
        "tcp://voa.lab:five",
        "tcp://voa.lab:0",
        "tcp://voa.lab:70000",
        "tcp://voa.lab:5025/path",
        "tcp://[fe80::1:5025",
        "tcp:voa.lab:5025",
        "serial://ttyUSB0",
        "serial:///",
        "serial:/dev/ttyUSB0",
        "socket://10.0.0.5",
        "visa://",
        "visa://voa.lab",
        "TCPIP0::voa.lab::5025::SOCKET",
        "zmq://id900.lab",
        "http://voa.lab:80",
        "memory:",
        "memory:unknown",
    ],
)
def test_a_wrong_resource_names_the_instrument_and_quotes_it(resource: str) -> None:
    connector = Connector(memory={"voa": MemoryChannel})

    with pytest.raises(SettingError, match="voa-signal: ") as caught:
        connector.transport("voa-signal", resource)

    assert resource in str(caught.value)


def test_a_missing_port_is_told_in_the_words_of_its_own_kind() -> None:
    with pytest.raises(SettingError, match=r"must read zmq://HOST:PORT"):
        Connector().transport("id900", "zmq://id900.lab")


def test_an_unknown_kind_is_told_all_kinds() -> None:
    with pytest.raises(SettingError, match=r"serial:///dev/NAME.*visa://RESOURCE.*memory:NAME"):
        Connector().transport("voa", "usb://voa")


def test_an_unknown_memory_port_is_told_those_that_there_are() -> None:
    connector = Connector(memory={"b": MemoryChannel, "a": MemoryChannel})

    with pytest.raises(SettingError, match="there are: a, b"):
        connector.transport("voa", "memory:c")
