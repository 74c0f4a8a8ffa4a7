"""Thorlabs LCC25."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="thorlabs-lcc25",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-Thorlabs_LCC25",
        "max_voltage_v": 20.0,
        "rest_voltage_v": 1.5,
    },
    impostor=instead(b"LCC25", b"TC200"),
    is_safe=lambda outputs, options: (
        {outputs["volt1"], outputs["volt2"]} == {options.rest_voltage_v}
    ),
    other={rb"volt([12])=[\d.]+": rb"volt\1=12.345"},
    refused={rb"volt([12])=[\d.]+": rb"volt\1=99.000"},
    meddling=[b"volt2=25\r", b"mode=2\r", b"enable=1\r"],
    options={"mode": "voltage 2"},
    hasty={"boot_s": 0.1},
)
