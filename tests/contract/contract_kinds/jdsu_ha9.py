"""JDS Uniphase HA9."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="jdsu-ha9",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-JDS_HA9",
        "min_attenuation_db": 3.0,
        "max_attenuation_db": 60.0,
    },
    impostor=instead(b"HA9", b"SB5"),
    is_safe=lambda outputs, options: (
        outputs["attenuation"] == options.rest_db and not outputs["shutter"]
    ),
    other={rb"ATT [\d.]+": b"ATT 12.00", rb"D 0": b"D 1"},
    refused={rb"ATT [\d.]+": b"ATT 199.00", rb"D 0": b"D 7"},
    meddling=[b"D 0\r", b"CAL 5\r"],
    shifts=[b"CAL 2\r", b"CAL -2\r"],
    too_bright=[b"ATT 1\r"],
    options={"wavelength_nm": 1480.0},
    hasty={"bits_per_byte": 1, "speed_db_per_s": 2000.0, "boot_s": 0.1},
)
