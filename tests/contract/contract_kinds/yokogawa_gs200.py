"""Yokogawa GS200."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="yokogawa-gs200",
    instrument={
        "resource": "visa://TCPIP0::192.168.1.30::7655::SOCKET",
        "min_voltage_v": -5.0,
        "max_voltage_v": 5.0,
    },
    impostor=instead(b"GS210", b"7651"),
    is_safe=lambda outputs, options: (
        (outputs["voltage"], outputs["current"]) == (options.rest_voltage_v, 0.0)
    ),
    other={rb"LEV -?[\d.]+": b"LEV 1.234"},
    refused={rb"LEV -?[\d.]+": b"LEV 99"},
    meddling=[b":SOUR:FUNC CURR\n:SOUR:LEV 0.004\n:OUTP:STAT 1\n"],
    options={"current_limit_a": 0.02},
)
