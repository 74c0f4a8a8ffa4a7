"""A line instrument that is Alice's state source, as in the example."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="line-instrument",
    instrument={
        "resource": "tcp://192.168.1.20:7000",
        "identity_query": "*IDN?",
        "identity_contains": "StateSource",
        "error_query": "ERR?",
        "error_ok": "0,.*",
        "state_setting": "state",
        "safe": {"state": "PATTERN"},
        "settings": {
            "state": {
                "set": "STATE {value}",
                "query": "STATE?",
                "values": ["H", "V", "D", "A", "PATTERN"],
            }
        },
    },
    impostor=instead(b"StateSource", b"PulseSource"),
    is_safe=lambda outputs, options: outputs["state"] == options.safe["state"],
    other={rb"STATE \w+": b"STATE D"},
    refused={rb"STATE \w+": b"STATE X"},
    meddling=[b"STATE H\n"],
    is_set_up=False,
)
