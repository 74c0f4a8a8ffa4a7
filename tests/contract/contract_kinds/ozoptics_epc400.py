"""OZ Optics EPC-400."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="ozoptics-epc400",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-OZ_Optics_EPC-400",
        "min_voltage_v": -5.0,
        "max_voltage_v": 5.0,
    },
    impostor=instead(b" CH4 +0000", b""),
    is_safe=lambda outputs, options: (
        {outputs[str(n)] for n in options.channels} == {options.rest_voltage_v}
        and not outputs["scrambles"]
    ),
    other={rb"V([1-4]),[+-]?\d+": rb"V\1,1234"},
    refused={rb"V([1-4]),[+-]?\d+": rb"V\1,9999"},
    meddling=[b"VH2\r\n", b"MAC\r\n"],
    preset=[b"MAC\r\n", b"SAVE\r\n"],
    hasty={"bits_per_byte": 1},
)
