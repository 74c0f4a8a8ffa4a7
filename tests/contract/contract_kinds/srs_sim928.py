"""SRS SIM928 in a SIM900."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="srs-sim928",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-SRS_SIM900",
        "slot": 4,
        "min_voltage_v": -5.0,
        "max_voltage_v": 5.0,
    },
    impostor=instead(b"SIM928", b"SIM910"),
    is_safe=lambda outputs, options: outputs["voltage"] == options.rest_voltage_v,
    other={rb'"VOLT -?[\d.]+"': b'"VOLT 1.234"'},
    refused={rb'"VOLT -?[\d.]+"': b'"VOLT 99"'},
    meddling=[b'SNDT 4,"VOLT 4"\n'],
    hasty={"answer_s": 0.005},
)
