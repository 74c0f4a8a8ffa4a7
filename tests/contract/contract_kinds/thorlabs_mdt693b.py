"""Thorlabs MDT693B."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="thorlabs-mdt693b",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-Thorlabs_MDT693B",
        "max_voltage_v": 60.0,
    },
    impostor=instead(b"MDT693B", b"BPC303 "),
    is_safe=lambda outputs, options: (
        all(abs(outputs[axis] - options.rest_voltage_v) < 0.01 for axis in options.axes)
        and not outputs["master scan"]
    ),
    other={rb"([xyz])voltage=[\d.]+": rb"\1voltage=31.415"},
    refused={rb"([xyz])voltage=[\d.]+": rb"\1voltage=999.000"},
    meddling=[b"yvoltage=40\r", b"msvoltage=20\r", b"msenable=1\r"],
    hasty={"boot_s": 0.1},
)
