"""Thorlabs MPC320 paddles."""

from contract_kinds.manners import Manners, instead


def sent_to(steps: int) -> bytes:
    """The end of the command that turns a paddle: where to."""
    return steps.to_bytes(4, "little", signed=True)


# Bytes are anything here, line feeds included.
MOVE = rb"(?s)(S\x04\x06\x00\xd0\x01.\x00)...."


MANNERS = Manners(
    kind="thorlabs-mpc320",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-Thorlabs_Polarization_Controller_38000042",
        "velocity_percent": 100,
    },
    impostor=instead(b"MPC320", b"KDC101"),
    is_safe=lambda outputs, options: not outputs["moves"],
    other={MOVE: lambda found: found[1] + sent_to(1000)},
    refused={MOVE: lambda found: found[1] + sent_to(2000)},
    # Slowly, paddle 2 to 158 degrees.
    meddling=[
        bytes.fromhex("10 02 07 01 50 01"),
        bytes.fromhex("30 05 0c 00 d0 01 00 00 0a 00 ad 02 19 00 19 00 19 00"),
        bytes.fromhex("53 04 06 00 d0 01 02 00 f9 04 00 00"),
    ],
    options={"home_angle_deg": 80.0},
    hasty={"full_speed_deg_per_s": 20_000.0},
)
