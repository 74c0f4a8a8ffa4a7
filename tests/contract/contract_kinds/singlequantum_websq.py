"""Single Quantum WebSQ."""

import json
import re

from contract_kinds.manners import Manners, instead

SET_LIST = rb'("SetAll(?:BiasCurrents|TriggerLevels)".*"value": )(\[[^]]*\])'


def five_more(match: re.Match[bytes]) -> bytes:
    """The same command with every value five higher: it always changes something."""
    values = [each + 5 for each in json.loads(match[2])]
    return match[1] + json.dumps(values).encode()


MANNERS = Manners(
    kind="singlequantum-websq",
    instrument={
        "resource": "tcp://192.168.1.23:12000",
        "bias_currents_ua": {"1": 15.0, "2": 15.0, "3": 15.0, "4": 15.0},
    },
    impostor=instead(b"BiasCurrent", b"BiasVoltage"),
    is_safe=lambda outputs, options: not outputs["enabled"],
    other={SET_LIST: five_more},
    refused={SET_LIST: rb"\1[999, 999, 999, 999]"},
    meddling=[b'{"command": "DetectorEnable", "label": "DetectorEnable", "value": true}'],
    options={"bias_currents_ua": {"1": 12.0}, "trigger_levels_mv": {"2": 80.0}},
)
