"""Keysight 33500B."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="keysight-33500b",
    instrument={
        "resource": "tcp://192.168.1.31:5025",
        "min_voltage_v": -5.0,
        "max_voltage_v": 5.0,
    },
    impostor=instead(b"33522B", b"34461A"),
    is_safe=lambda outputs, options: (
        (outputs["voltage"], outputs["amplitude"]) == (options.rest_voltage_v, 0.0)
    ),
    other={rb"OFFS -?[\d.]+": b"OFFS 1.234"},
    refused={rb"OFFS -?[\d.]+": b"OFFS 99"},
    meddling=[b":SOUR1:VOLT:OFFS 4\n:SOUR1:FUNC SIN\n"],
)
