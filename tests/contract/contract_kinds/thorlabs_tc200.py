"""Thorlabs TC200."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="thorlabs-tc200",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-Thorlabs_TC200",
        "max_temperature_degc": 80.0,
    },
    impostor=instead(b"TC200", b"LCC25"),
    is_safe=lambda outputs, options: not outputs["heats"],
    other={rb"tset=[\d.]+": b"tset=45.6"},
    refused={rb"tset=[\d.]+": b"tset=204.0"},
    meddling=[b"tset=70\r", b"ens\r"],
    is_set_up=False,
    hasty={"boot_s": 0.1},
)
