"""Keysight N77xx attenuators."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="keysight-n77xx",
    instrument={
        "resource": "visa://TCPIP0::192.168.1.21::5025::SOCKET",
        "slot": 1,
        "min_attenuation_db": 3.0,
        "max_attenuation_db": 45.0,
    },
    impostor=instead(b"N7764A", b"N7744A"),
    is_safe=lambda outputs, options: (
        outputs["attenuation"] == options.rest_db and not outputs["shutter"]
    ),
    other={rb"ATT [\d.]+dB": b"ATT 12.00dB", rb"STAT 1": b"STAT 0"},
    refused={rb"ATT [\d.]+dB": b"ATT 99.00dB", rb"STAT 1": b"STAT 7"},
    meddling=[b":OUTP1:STAT 1\n", b":INP1:OFFS 5dB\n", b":OUTP1:POW:CONT 1\n"],
    shifts=[b":INP1:OFFS 2dB\n", b":INP1:OFFS -2dB\n"],
    controls=[b":OUTP1:POW:CONT 1\n"],
    too_bright=[b":INP1:ATT 1dB\n"],
    options={"wavelength_nm": 1310.0, "transition_speed_db_per_s": 50.0},
)
