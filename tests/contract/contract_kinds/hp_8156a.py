"""HP / Agilent 8156A."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="hp-8156a",
    instrument={
        "resource": "visa://GPIB0::28::INSTR",
        "min_attenuation_db": 3.0,
        "max_attenuation_db": 60.0,
    },
    impostor=instead(b"HP8156A", b"HP8168F"),
    is_safe=lambda outputs, options: (
        outputs["attenuation"] == options.rest_db and not outputs["shutter"]
    ),
    other={rb"ATT [\d.]+DB": b"ATT 12.000DB", rb"STAT 1": b"STAT 0"},
    refused={rb"ATT [\d.]+DB": b"ATT 99.000DB", rb"STAT 1": b"STAT 7"},
    meddling=[b":OUTP:STAT 1\n", b":INP:OFFS 5DB\n", b":OUTP:APM 1\n"],
    shifts=[b":INP:OFFS 2DB\n", b":INP:OFFS -2DB\n"],
    controls=[b":OUTP:APM 1\n"],
    too_bright=[b":INP:ATT 1DB\n"],
    options={"wavelength_nm": 1480.0},
    hasty={"speed_db_per_s": 2000.0},
)
