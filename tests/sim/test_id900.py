import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.instruments.id900 import Id900, Id900Settings
from sim.polarization_twin import PolarizationTwinSettings
from sim.record import REJECTED, Record
from sim.wire import Reply


class Detections:
    """Input n clicks n thousand times a second, n ps after START."""

    sync_period_ps = 200_000.0

    def __init__(self) -> None:
        self.asked: list[tuple[float, float]] = []

    def tags(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.uint64]]:
        self.asked.append((start_s, duration_s))
        return {n: np.full(round(1000 * n * duration_s), n, np.uint64) for n in (1, 2, 3, 4)}

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        self.asked.append((start_s, duration_s))
        return np.round(np.arange(1, 5) * 1000 * duration_s).astype(np.int64)


class Bench:
    def __init__(self, settings: Id900Settings | None = None) -> None:
        self.detections = Detections()
        self.record = Record()
        self.unit = Id900("tagger", self.detections, self.record, settings)
        self.streamed: list[Reply] = []

    def ask(self, text: str, now_s: float = 0.0) -> str:
        *streamed, reply = self.unit.handle(text.encode(), now_s)
        self.streamed += streamed
        assert reply.port == "main"
        return reply.data.decode()

    def link(self, text: str, now_s: float = 0.0) -> Any:
        replies = self.unit.handle(text.encode(), now_s, "datalink")
        self.streamed += [reply for reply in replies if reply.port != "datalink"]
        (answer,) = (reply for reply in replies if reply.port == "datalink")
        return json.loads(answer.data)

    def wait(self, now_s: float) -> None:
        self.streamed += self.unit.tick(now_s)

    def messages(self, channel: int) -> list[bytes]:
        return [reply.data for reply in self.streamed if reply.port == f"stream-{channel}"]

    def enable(self, *channels: int) -> None:
        for root in ("STARt", *(f"INPUt{n}" for n in channels)):
            self.ask(f"{root}:ENABle ON;THREshold 1.0V")

    def arm(self, *channels: int, duration_ps: int = 10**12) -> None:
        self.enable(*channels)
        for command in ("TRIG:ARM:MODE MANUal", "ENABle ON", "STOP", "NUM 1"):
            self.ask(f"REC:{command}")
        self.ask(f"REC:DURation {duration_ps}")
        for n in channels:
            self.ask(f"RAW{n}:REF:LINK STAR")
            self.ask(f"RAW{n}:STOP:LINK INPU{n}")
            self.ask(f"RAW{n}:ERRORS:CLEAR")
            self.link(f"start-stream --address 10.0.0.1 --channel {n} --stream-port {4241 + n}")
            self.ask(f"RAW{n}:SEND ON")


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("INPUt1:ENABle ON", "Value set to ON"),
        ("input1:enable off", "Value set to OFF"),
        (":INPU2:COUP AC", "Value set to AC"),
        ("INPU2:EDGE FALL", "Value set to FALLING"),
        ("STAR:SELE shaped", "Value set to SHAPED"),
        ("INPU1:COUN:MODE ACCUM", "Value set to ACCUM"),
        ("INPU1:COUN:INTE 100", "Value set to 100TB"),
        ("REC:TRIG:ARM:MODE MANUal", "Value set to MANUAL"),
        ("REC:NUM INF", "Value set to INF"),
        ("REC:NUM 1", "Value set to 1"),
        ("RECORD:DURATION 1e12", "Value set to 1000000000000TB"),
        ("RAW1:REF:LINK STAR", "Value set to STAR"),
        ("RAW1:INPOrt:REF:LINK START", "Value set to STAR"),
        ("RAW3:STOP:LINK INPU3", "Value set to INPU3"),
        ("RAW3:INPO:STOP:LINK input3", "Value set to INPU3"),
        ("RAW4:SEND ON", "Value set to ON"),
        ("DELA8:INPO:LINK INPU4", "Value set to INPU4"),
        ("DELAY1:VALUE 1000TB", "Value set to 1000TB"),
        ("DEVI:SYNC EXTERNAL", "Value set to EXTERNAL"),
        ("INPU1:COUN:RESE", "Counter value set to 0 "),
        ("INPU1:HIRES:ERROR:CLEAR", "Cleared Highres errors"),
    ],
)
def test_sets_answer_too(command: str, answer: str) -> None:
    assert Bench().ask(command) == answer


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("", "SCPI_ERR_INVALID_CMD"),
        ("NONSENSE", "SCPI_ERR_INVALID_CMD"),
        ("INPU5:ENAB ON", "SCPI_ERR_INVALID_CMD"),
        ("INPU0:ENAB ON", "SCPI_ERR_INVALID_CMD"),
        ("INPU:ENAB ON", "SCPI_ERR_INVALID_CMD"),
        ("STAR:RESY AUTO", "SCPI_ERR_INVALID_CMD"),
        ("INPU1:ENAB", "SCPI_ERR_PARAM_TYPE"),
        ("INPU1:ENAB MAYBE", "SCPI_ERR_PARAM_TYPE"),
        ("INPU1:COUN:INTE 0", "SCPI_ERR_PARAM_TYPE"),
        ("INPU1:COUN:INTE 65536", "SCPI_ERR_PARAM_TYPE"),
        ("INPU1:THRE 6V", "SCPI_ERR_PARAM_TYPE"),
        ("REC:DUR -1", "SCPI_ERR_PARAM_TYPE"),
        ("DELA1:INPO:LINK INPU9", "No connection"),
        ("RAW1:STOP:LINK HIST1", "No connection"),
    ],
)
def test_refusals_have_their_own_answers(command: str, answer: str) -> None:
    bench = Bench()

    assert bench.ask(command) == answer
    assert bench.record.totals["tagger", REJECTED] == bool(command)


def test_an_answer_to_several_commands_ends_at_the_first_refusal() -> None:
    bench = Bench()

    answer = bench.ask("INPU1:ENAB ON;COUP XX;EDGE FALLING")

    assert answer == "Value set to ON;SCPI_ERR_PARAM_TYPE"
    assert bench.ask("INPU1:EDGE?") == "RISING"


def test_an_input_dumps_nine_fields_with_its_delay() -> None:
    bench = Bench()
    bench.ask("INPUT1:ENABLE ON;THRESHOLD 0.5V;:INPUT1:COUNTER:INTEGRATIONTIME 100")
    bench.ask("DELAY1:VALUE 2500")

    assert bench.ask("INPUT1:STATE?;:DELAY1:VALUE?").split(";") == [
        "ENAB ON",
        "COUP DC",
        "EDGE RISING",
        "THRE 0.499712V",
        "SELE UNSHAPED",
        "RESY AUTO",
        "INPUt1:COUNter:INTEgrationtime 100TB",
        "MODE CYCLE",
        "2500TB",
    ]


def test_start_dumps_eight_fields() -> None:
    assert Bench().ask("START:STATE?").split(";") == [
        "ENAB OFF",
        "COUP DC",
        "EDGE RISING",
        "THRE 0.999424V",
        "SELE UNSHAPED",
        "DELA 0TB",
        "STARt:COUNter:INTEgrationtime 1000TB",
        "MODE CYCLE",
    ]


def test_other_blocks_dump_theirs() -> None:
    assert Bench().ask("DELAY2:STATE?") == "DELA2:VALUe 0TB;INPO:LINK NONE"
    assert Bench().ask("DEVICE:STATE?") == "DEVIce:SYNC INTERNAL;RES HIRES"


@pytest.mark.parametrize(
    ("threshold", "dumped"),
    [("0.5V", "0.499712V"), ("1V", "0.999424V"), ("500mV", "0.499712V"), ("0.5", "0.499712V")],
)
def test_the_threshold_is_quantised_downward(threshold: str, dumped: str) -> None:
    bench = Bench()
    bench.ask(f"INPU1:THRE {threshold}")

    assert f"THRE {dumped};" in bench.ask("INPU1:STAT?")


def test_it_says_who_it_is() -> None:
    assert Bench().ask("*IDN?") == "ID Quantique,ID900,2020090173,1.36.1"


def test_a_cycle_counter_shows_the_first_window_that_began_after_the_reset() -> None:
    bench = Bench(Id900Settings(window_phase=0.5))
    bench.enable(1)
    bench.ask("INPU1:COUN:MODE CYCLE;INTE 100", 0.0)
    bench.ask("INPU1:COUN:RESE", 1.0)

    assert bench.ask("INPU1:COUN?", 1.1) == "0"  # a window ended, but it began before the reset
    assert bench.ask("INPU1:COUN?", 1.149) == "0"
    assert bench.ask("INPU1:COUN?", 1.151) == "100"


def test_a_stored_count_is_the_same_until_the_next_window_ends() -> None:
    bench = Bench()
    bench.enable(1, 2)
    bench.ask("INPU1:COUN:INTE 100;:INPU2:COUN:INTE 100", 0.0)

    reads = [bench.ask(f"INPU{n}:COUN?", 1.05 + 0.001 * n) for n in (1, 2, 1)]

    assert reads == ["100", "200", "100"]
    assert len(bench.detections.asked) == 1


def test_an_accumulating_counter_goes_on_from_its_reset() -> None:
    bench = Bench()
    bench.enable(2)
    bench.ask("INPU2:COUN:MODE ACCUM", 0.0)

    assert bench.ask("INPU2:COUN?", 1.0) == "2000"
    assert bench.ask("INPU2:COUN?", 3.0) == "6000"
    bench.ask("INPU2:COUN:RESE", 4.0)
    assert bench.ask("INPU2:COUN?", 5.0) == "2000"


def test_a_running_total_is_kept_up_to_date_without_being_read() -> None:
    bench = Bench()
    bench.enable(1)
    bench.ask("INPU1:COUN:MODE ACCUM", 0.0)

    while (due_s := bench.unit.due_s()) is not None and due_s <= 3600:
        bench.wait(due_s)

    assert bench.ask("INPU1:COUN?", 3600.0) == "3600000"
    assert max(duration_s for _, duration_s in bench.detections.asked) <= 60


@pytest.mark.parametrize("command", ["ENAB OFF", "THRE 3V", "THRE 0.01V"])
def test_an_input_that_sees_no_pulses_counts_none(command: str) -> None:
    bench = Bench()
    bench.enable(1)
    bench.ask(f"INPU1:{command}", 0.0)

    assert bench.ask("INPU1:COUN?", 10.0) == "0"


def test_a_threshold_in_the_noise_is_an_error() -> None:
    bench = Bench()
    bench.enable(1)
    assert bench.ask("INPU1:HIRES:ERROR?") == "0"

    bench.ask("INPU1:THRE 10mV")

    assert bench.ask("INPU1:HIRES:ERROR?") == "1003"


def test_start_counts_pattern_periods() -> None:
    bench = Bench()
    bench.enable()
    bench.ask("STAR:COUN:INTE 100", 0.0)

    assert bench.ask("STAR:COUN?", 1.0) == "500000"


def test_time_stamps_come_when_the_record_ends_and_an_empty_message_ends_them() -> None:
    bench = Bench()
    bench.arm(1, 3)
    bench.ask("REC:PLAY", 2.0)
    assert bench.ask("REC:STAGe?", 2.9) == "PLAYING"
    assert bench.streamed == []

    bench.wait(3.0)

    assert bench.ask("REC:STAGe?", 3.0) == "IDLE"
    assert bench.messages(1) == [np.full(1000, 1, "<u8").tobytes(), b""]
    assert bench.messages(3) == [np.full(3000, 3, "<u8").tobytes(), b""]
    assert bench.messages(2) == []


def test_the_duration_is_honoured_exactly_however_often_it_is_looked_at() -> None:
    bench = Bench()
    bench.arm(1, duration_ps=3_500_000_000_000)
    bench.ask("REC:PLAY", 1.0)

    for n in range(60):
        bench.ask("REC:STAGe?", 1.0 + 0.1 * n)

    assert sum(duration_s for _, duration_s in bench.detections.asked) == pytest.approx(3.5)
    assert bench.detections.asked[0][0] == 1.0
    assert max(duration_s for _, duration_s in bench.detections.asked) <= 0.11


def test_polling_late_still_delivers() -> None:
    bench = Bench()
    bench.arm(2)
    bench.ask("REC:PLAY", 0.0)

    assert bench.ask("REC:STAGe?", 5.0) == "IDLE"
    assert len(bench.messages(2)) == 2


def test_stopping_ends_early_and_delivers_what_was_seen() -> None:
    bench = Bench()
    bench.arm(1, duration_ps=10**13)
    bench.ask("REC:PLAY", 0.0)

    bench.ask("REC:STOP", 0.25)

    assert bench.ask("REC:STAGe?", 0.25) == "IDLE"
    assert [len(message) // 8 for message in bench.messages(1)] == [250, 0]


def test_messages_are_of_bounded_size() -> None:
    bench = Bench(Id900Settings(tags_per_message=256))
    bench.arm(1)
    bench.ask("REC:PLAY", 0.0)
    bench.wait(1.0)

    assert [len(message) // 8 for message in bench.messages(1)] == [256, 256, 256, 232, 0]


@pytest.mark.parametrize(
    "command",
    [
        "RAW1:SEND OFF",
        "RAW1:STOP:LINK NONE",
        "RAW1:REF:LINK NONE",
        "INPU1:ENAB OFF",
        "STAR:ENAB OFF",
    ],
)
def test_a_channel_without_all_its_links_records_nothing(command: str) -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask(command)
    bench.ask("REC:PLAY", 0.0)
    bench.wait(1.0)

    assert b"".join(bench.messages(1)) == b""


def test_without_a_stream_nothing_is_sent() -> None:
    bench = Bench()
    bench.arm(1)
    bench.link("stop --id 10.0.0.1:5556")
    bench.ask("REC:PLAY", 0.0)
    bench.wait(1.0)

    assert bench.streamed == []


def test_a_disabled_generator_does_not_play() -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask("REC:ENAB OFF")

    bench.ask("REC:PLAY", 0.0)

    assert bench.ask("REC:STAG?", 0.1) == "IDLE"


def test_a_channel_may_be_linked_to_another_input_and_through_a_delay() -> None:
    bench = Bench()
    bench.arm(1)
    bench.enable(2)
    bench.ask("DELA5:INPO:LINK INPU2;:DELA5:VALU 100000;:RAW1:STOP:LINK DELA5")
    bench.ask("STAR:DELA 2")
    bench.ask("REC:PLAY", 0.0)
    bench.wait(1.0)

    assert set(np.frombuffer(bench.messages(1)[0], "<u8")) == {100_000}


def test_delayed_time_stamps_refer_to_the_latest_start() -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask("DELA1:INPO:LINK INPU1;:DELA1:VALU 199999;:RAW1:STOP:LINK DELA1")
    bench.ask("REC:PLAY", 0.0)
    bench.wait(1.0)

    assert set(np.frombuffer(bench.messages(1)[0], "<u8")) == {0}


def test_repeated_records_end_one_after_the_other() -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask("REC:NUM 3;PWID 200000000000;PPER 500000000000")
    bench.ask("REC:PLAY", 0.0)
    while (due_s := bench.unit.due_s()) is not None:
        bench.wait(due_s)

    assert [len(message) // 8 for message in bench.messages(1)] == [200, 0] * 3
    starts_s = [start_s for start_s, _ in bench.detections.asked]
    assert starts_s == pytest.approx([0.0, 0.1, 0.5, 0.6, 1.0, 1.1])
    assert bench.link("status --id 10.0.0.1:5556")["acquisitions_count"] == 3


def test_endless_records_go_on_until_stopped() -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask("REC:NUM INF;PWID 200000000000;PPER 200000040000")
    bench.ask("REC:PLAY", 0.0)
    bench.wait(10.1)
    assert bench.ask("REC:STAGE?", 10.1) == "PLAYING"

    bench.ask("REC:STOP", 10.1)

    assert bench.messages(1).count(b"") == 51


def test_too_short_sub_acquisitions_are_errors() -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask("REC:NUM 2;PWID 1000;PPER 2000")

    bench.ask("REC:PLAY", 0.0)

    assert bench.ask("RAW1:ERRORS?", 0.0) == "1"
    bench.ask("RAW1:ERRORS:CLEAR", 0.0)
    assert bench.ask("RAW1:ERRORS?", 0.0) == "0"


def test_the_data_link_lists_reports_and_stops_streams() -> None:
    bench = Bench()
    assert bench.link("list") == []

    answer = bench.link("start-stream --channel 2 --address 10.98.99.7 --stream-port 4243", 1.0)

    assert answer == {"id": "10.98.99.7:5557"}
    assert bench.link("list") == ["10.98.99.7:5557"]
    status = {"acquisitions_count": 0, "timestamps_count": 0, "inactivity": 2.0, "errors": []}
    assert bench.link("status --id 10.98.99.7:5557", 3.0) == status
    assert bench.link("stop --id 10.98.99.7:5557", 3.0) == {"status": status}
    assert bench.link("list") == []


@pytest.mark.parametrize(
    ("request_", "description"),
    [
        ("dance", "unknown command 'dance'"),
        ("", "unknown command ''"),
        ("list 'open", "No closing quotation"),
        ("list extra", "unexpected 'extra'"),
        ("stop --id", "unexpected '--id'"),
        ("stop --id nobody", "unknown acquisition id 'nobody'"),
        ("start-stream --channel 1 --stream-port 1", "missing option '--address'"),
        ("start-stream --address a --channel 5 --stream-port 1", "channel 5 is not"),
        ("start-stream --address a --channel x --stream-port 1", "'--channel' needs a number"),
        ("start-stream --address a --channel 1 --stream-port 1 --with-ref-index", "reference"),
        ("start-save --address a --channel 1 --filename f --format bin", "saving to a file"),
    ],
)
def test_the_data_link_says_what_is_wrong(request_: str, description: str) -> None:
    assert description in Bench().link(request_)["error"]["description"]


def test_a_channel_streams_only_once_at_a_time() -> None:
    bench = Bench()
    request = "start-stream --address a --channel 1 --stream-port 4242"
    bench.link(request)

    assert "already active" in bench.link(request)["error"]["description"]


def test_a_stream_on_a_port_that_is_not_served_is_refused() -> None:
    bench = Bench()
    bench.unit.use_stream_ports({1: 40001})

    refused = bench.link("start-stream --address a --channel 1 --stream-port 4242")
    accepted = bench.link("start-stream --address a --channel 1 --stream-port 40001")

    assert refused == {"error": {"description": "cannot open stream port 4242"}}
    assert accepted == {"id": "a:5556"}


def test_by_the_other_reading_the_empty_message_ends_the_stream() -> None:
    bench = Bench(Id900Settings(empty_message_ends="stream"))
    bench.arm(1)
    bench.ask("REC:PLAY", 0.0)
    bench.wait(1.0)
    assert [len(message) // 8 for message in bench.messages(1)] == [1000]

    bench.link("stop --id 10.0.0.1:5556", 1.1)

    assert bench.messages(1)[-1] == b""


def test_power_up_forgets_settings_and_the_record_but_the_data_link_runs_elsewhere() -> None:
    bench = Bench()
    bench.arm(1)
    bench.ask("REC:PLAY", 0.0)

    bench.unit.power_cycle(0.5)

    assert bench.ask("REC:STAGE?;:INPU1:ENAB?;:RAW1:SEND?", 0.6) == "IDLE;OFF;OFF"
    assert bench.unit.due_s() is None
    assert bench.link("list") == ["10.0.0.1:5556"]


def test_a_configuration_can_be_loaded() -> None:
    bench = Bench()
    bench.enable(1)

    assert bench.ask("DEVI:CONF:LOAD NOTHING") == "SCPI_ERR_PARAM_TYPE"
    assert bench.ask("DEVI:CONF:LOAD INIT") == "Value set to INIT"
    assert bench.ask("INPU1:ENAB?") == "OFF"


def test_the_same_seed_gives_the_same_bytes() -> None:
    def stream(seed: int) -> list[bytes]:
        bench = Bench()
        twin = PolarizationTwinSettings(seed=seed).build(start_s=0.0)
        bench.unit = Id900("tagger", twin, bench.record)
        twin.attenuator.set_shutter(True, 0.0)
        bench.arm(1, 2, 3, 4, duration_ps=10**11)
        bench.ask("REC:PLAY", 1.0)
        bench.wait(1.1)
        return [message for n in (1, 2, 3, 4) for message in bench.messages(n)]

    assert stream(7) == stream(7)
    assert stream(7) != stream(8)


_COMMANDS = st.sampled_from(
    [
        "INPU1:ENAB",
        "INPU1:COUN:INTE",
        "INPU1:THRE",
        "STAR:DELA",
        "DELA1:VALU",
        "REC:NUM",
        "REC:DUR",
        "REC:PPER",
        "REC:ENAB ON;PLAY",
        "REC:STOP;PLAY",
        "RAW1:STOP:LINK",
        "INPU1:COUN?",
    ]
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["main", "datalink", "stream-1", "elsewhere"]),
            st.one_of(
                st.binary(max_size=100),
                st.builds(lambda c, a: f"{c} {a}".encode(), _COMMANDS, st.text(max_size=9)),
                st.builds(lambda c, a: f"{c} {a}".encode(), _COMMANDS, st.integers(-9, 10**13)),
            ),
        ),
        max_size=30,
    )
)
def test_no_bytes_upset_it_and_every_request_is_answered_once(
    messages: list[tuple[str, bytes]],
) -> None:
    bench = Bench()
    for n, (port, message) in enumerate(messages):
        replies = bench.unit.handle(message, 0.1 * n, port)
        assert sum(reply.port == port for reply in replies) == (port in ("main", "datalink"))
    bench.unit.reset_line(99.0)

    assert bench.ask("*IDN?", 100.0).startswith("ID Quantique")
