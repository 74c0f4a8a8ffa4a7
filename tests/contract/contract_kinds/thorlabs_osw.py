"""Thorlabs OSW optical switches."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="thorlabs-osw",
    instrument={"resource": "serial:///dev/serial/by-id/usb-Thorlabs_OSW22", "rest_path": "2"},
    impostor=instead(b"OSW22", b"MPC220"),
    is_safe=lambda outputs, options: outputs["path"] == options.rest_path,
    other={rb"S [12]": b"S 2"},
    meddling=[b"S 1\n"],
    is_set_up=False,
    hasty={"move_s": 0.01},
)
