"""S-Fifteen SPD."""

from contract_kinds.manners import Manners, instead

OTHER = {b"hvolt": b"77.0", b"threshvolt": b"0.300", b"settemp": b"5.0"}

MANNERS = Manners(
    kind="sfifteen-spd",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-S-Fifteen_Instruments_SPD-0042",
        "max_bias_v": 160.0,
        "min_threshold_v": 0.05,
        "max_threshold_v": 0.4,
        "input": 3,
    },
    impostor=instead(b"SPD", b"SPDC"),
    is_safe=lambda outputs, options: outputs["bias"] == options.rest_bias_v,
    other={rb"(hvolt|threshvolt|settemp) [-.\d]+": lambda match: match[1] + b" " + OTHER[match[1]]},
    meddling=[b"hvolt 140\r\n"],
    options={"is_cooled": False},
    hasty={"boot_s": 0.05},
)
