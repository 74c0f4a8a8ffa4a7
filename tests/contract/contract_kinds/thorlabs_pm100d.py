"""Thorlabs PM100D."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="thorlabs-pm100d",
    instrument={"resource": "visa://USB0::0x1313::0x8078::P0012345::INSTR"},
    impostor=instead(b"PM100D", b"LDC500"),
    is_safe=lambda outputs, options: not outputs["zeroing"],
    meddling=[b"SENS:CORR:COLL:ZERO:INIT\n"],
    options={"wavelength_nm": 1310.0, "averages": 50, "loss_db": 3.0},
)
