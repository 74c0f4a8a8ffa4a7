"""S-Fifteen TDC1."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="sfifteen-tdc1",
    instrument={
        "resource": "serial:///dev/serial/by-id/usb-S-Fifteen_Instruments_USB_Counter_TDC1-0019",
        "min_threshold_v": -0.7,
        "max_threshold_v": -0.1,
    },
    impostor=instead(b"TDC1", b"USB7"),
    is_safe=lambda outputs, options: outputs["mode"] == "singles" and not outputs["streams"],
    other={rb"(POS|NEG) [-.\d]+": b"NEG -1.00"},
    meddling=[b"INPKT;time 0;timestamp;counts?\r\n"],
    options={"threshold_v": -0.6, "reference_clock": "internal"},
    hasty={"boot_s": 0.05},
)
