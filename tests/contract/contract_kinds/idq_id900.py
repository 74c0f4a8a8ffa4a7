"""ID Quantique ID900."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="idq-id900",
    instrument={"resource": "zmq://192.168.1.22:5555", "data_link": "zmq://127.0.0.1:6060"},
    impostor=instead(b"ID900", b"ID281"),
    is_safe=lambda outputs, options: not outputs["records"] and not outputs["sends"],
    meddling=[b"RAW1:SEND ON", b"REC:ENABle ON", b"REC:NUM INF", b"REC:PLAY"],
)
