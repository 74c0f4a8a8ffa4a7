"""OZ Optics DD-100."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="ozoptics-dd100",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-OZ_Optics_DD-100",
        "min_attenuation_db": 2.0,
        "max_attenuation_db": 60.0,
        "home_on_open": True,
    },
    impostor=instead(b"MAX ATTEN", b"MAX WAVE"),
    is_safe=lambda outputs, options: outputs["attenuation"] == options.rest_db,
    other={rb"A[\d.]+": b"A12.00"},
    refused={rb"A[\d.]+": b"A99.00"},
    meddling=[b"A10.00\r\n"],
    hasty={"speed_db_per_s": 2000.0, "bits_per_byte": 1, "boot_s": 0.1},
)
