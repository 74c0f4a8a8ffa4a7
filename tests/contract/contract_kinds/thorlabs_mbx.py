"""Thorlabs MBX."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="thorlabs-mbx",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-Thorlabs_MBX3",
        "max_bias_v": 8.0,
        "min_bias_v": -8.0,
        "rest_bias_v": 0.5,
        "max_attenuation_db": 18.0,
    },
    impostor=instead(b"MBX3", b"TLX2"),
    is_safe=lambda outputs, options: (
        outputs["attenuation"] == options.rest_db
        and (outputs["bias"], outputs["mode"]) == (options.rest_bias_v, "7")
    ),
    other={rb"VOLTAGE: -?\d+": b"VOLTAGE: 1234", rb"ATTEN: [\d.]+": b"ATTEN: 12.34"},
    refused={rb"VOLTAGE: -?\d+": b"VOLTAGE: 12345", rb"ATTEN: [\d.]+": b"ATTEN: 20.50"},
    meddling=[b"VOA:POWER: 0\r", b"VOA:MODE: 1\r", b"MZM:MODE: 3\r"],
    shifts=[b"VOA:POWER: 0\r", b"VOA:OUTPUT:MW: 2\rVOA:MODE: 1\r"],
    hasty={"boot_s": 0.1},
)
