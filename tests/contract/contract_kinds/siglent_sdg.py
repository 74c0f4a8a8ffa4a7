"""Siglent SDG."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="siglent-sdg",
    instrument={
        "resource": "visa://TCPIP0::192.168.1.32::5025::SOCKET",
        "min_voltage_v": -5.0,
        "max_voltage_v": 5.0,
    },
    impostor=instead(b"SDG2042X", b"SDS1104X"),
    is_safe=lambda outputs, options: (
        (outputs["voltage"], outputs["amplitude"]) == (options.rest_voltage_v, 0.0)
    ),
    other={rb"OFST,-?[\d.]+": b"OFST,1.234"},
    echoes=False,
    meddling=[b"C1:BSWV OFST,4\n", b"C1:BSWV WVTP,SINE\n"],
)
