"""Swabian Time Tagger: no bytes; its calls pass the suite written as text."""

from contract_kinds.manners import Manners, instead

MANNERS = Manners(
    kind="swabian-timetagger",
    instrument={
        "resource": "timetagger://2104000Y0K",
        "sync_channel": 8,
        "min_trigger_level_v": -1.0,
        "max_trigger_level_v": 1.5,
    },
    impostor=instead(b"Time Tagger", b"quTAG"),
    is_safe=lambda outputs, options: (
        not outputs["measures"] and not any(outputs[f"test-{n}"] for n in options.channels)
    ),
    other={
        rb"setTriggerLevel\((\d+), [^)]*\)": rb"setTriggerLevel(\1, 2.0)",
        rb"setInputDelay\((\d+), [^)]*\)": rb"setInputDelay(\1, 7)",
    },
    refused={
        rb"setTriggerLevel\((\d+), [^)]*\)": rb"setTriggerLevel(\1, 9.0)",
        rb"setInputDelay\((\d+), [^)]*\)": rb"setInputDelay(\1, 99999999999999999999)",
    },
    meddling=[b"setTestSignal(1, True)\n"],
    options={
        "trigger_level_v": {1: 0.2, 8: 0.7},
        "input_delay_ps": {2: -1500},
        "dead_time_ps": {1: 20_000},
        "sync_divider": 2,
    },
    finds_again=rb"(sync|createTimeTagger|freeTimeTagger|connect|disconnect)\(",
    gist=lambda call: call.partition(b" ")[2],  # without its number
    echoes=False,
    set_up_s=0.0,
    overflow_hz="sim.instruments.timetagger_device.OVERFLOW_HZ",
)
