"""Polatis matrix switches."""

from contract_kinds.manners import Manners, instead

ADD = rb"conn:add \(@2\),\(@\d+\)"
TAKE_AWAY = rb"conn:sub \(@2\),\(@\)"

MANNERS = Manners(
    kind="polatis",
    instrument={"resource": "tcp://192.168.1.23:5025", "ingress": 2, "egress": [17, 18]},
    impostor=instead(b"Polatis", b"DiCon"),
    is_safe=lambda outputs, options: outputs["path"] == options.rest_path,
    other={ADD: b"conn:add (@2),(@20)", TAKE_AWAY: b"conn:add (@2),(@20)"},
    refused={ADD: b"conn:add (@2),(@99)", TAKE_AWAY: b"conn:sub (@99),(@)"},
    meddling=[b":oxc:swit:conn:add (@2),(@17)\n"],
    is_set_up=False,
)
