"""The testbed file: what is accepted, and what each mistake is answered with."""

from pathlib import Path

import pytest

from qkdctl.config import Testbed, TestbedFileError, load_testbed

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"
PADDLES = EXAMPLE.with_name("bench-paddles.toml")


def mistakes_in(tmp_path: Path, old: str, new: str, example: Path = EXAMPLE) -> list[str]:
    """Load the example with one piece of text replaced, return what is said about it."""
    text = example.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in the example"
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TestbedFileError) as caught:
        load_testbed(path)
    assert all(str(path) in problem.where for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads(path: Path) -> None:
    assert isinstance(load_testbed(path), Testbed)


def test_an_unknown_key_is_named_with_the_key_that_was_meant(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, "clock_hz = 1e8", "clock_hz = 1e8\nencodin = 1")
    assert "link.encodin" in problem
    assert "did you mean 'encoding'?" in problem


def test_an_unknown_option_of_an_instrument_is_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, "slot = 1", "slot = 1\nmax_attenuation = 3")
    assert "instruments.voa.max_attenuation" in problem
    assert "max_attenuation_db" in problem


def test_an_unknown_key_inside_a_named_knob_is_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, 'channel = "1"', 'channel = "1"\nmaximun = 2')
    assert "knobs.squeezer-1.maximun" in problem
    assert "did you mean 'maximum'?" in problem


def test_an_unknown_driver_is_answered_with_those_there_are(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, "ozoptics-epc400", "ozoptics-epc4000")
    assert "instruments.epc.kind" in problem
    assert "ozoptics-epc400" in problem


def test_an_inverted_limit_is_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, "minimum = -5.0", "minimum = 5.5")
    assert "knobs.squeezer-1" in problem
    assert "not below maximum" in problem


def test_two_knobs_on_one_channel_are_both_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, 'channel = "2"', 'channel = "1"')
    assert "squeezer-1" in problem
    assert "squeezer-2" in problem


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(TestbedFileError, match=r"nowhere\.toml: there is no such file"):
        load_testbed(tmp_path / "nowhere.toml")


def test_a_folder_is_said_to_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TestbedFileError, match="this is a folder"):
        load_testbed(tmp_path)


def test_a_file_that_is_not_toml_is_said_where_it_breaks(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[link\nname = 1")
    with pytest.raises(TestbedFileError, match=r"is not TOML.*line 1"):
        load_testbed(path)


def test_a_file_that_is_not_text_is_said_to_be_not_text(tmp_path: Path) -> None:
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TestbedFileError, match="not UTF-8"):
        load_testbed(path)


def test_an_instrument_that_does_not_exist_is_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, 'attenuator = "voa"', 'attenuator = "vao"')
    assert "light.attenuator" in problem
    assert "'vao'" in problem


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("clock_hz = 1e8", "clock_hz = -1")
    path = tmp_path / "mine.toml"
    path.write_text(text.replace("minimum = -5.0", "minimum = nan", 1))
    with pytest.raises(TestbedFileError) as caught:
        load_testbed(path)
    assert len(caught.value.problems) == 2


def test_an_intensity_that_is_not_defined_is_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, '"decoy", "vacuum"]', '"decoi", "vacuum"]')
    assert "'decoi'" in problem


def test_the_model_sampler_wants_one_knob_per_retarder(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, '"squeezer-3", "squeezer-4"]', '"squeezer-3"]')
    assert "one knob per retarder" in problem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[0.25, 0.5, 0.25]", "[0.25, 0.5]", "knows 2 paddles (retardance_waves) but 3 knobs"),
        ("[0.25, 0.5, 0.25]", "[0.25, 1.5, 0.25]", "retardance_waves.1: Input should be less"),
        ('actuator = "paddles"', 'actuator = "paddle"', "'paddles' or 'wave-plates'"),
        ('actuator = "paddles"', "", "belongs to actuator 'paddles'"),
        ('sampler = "model"', "half_wave_v = 2.5", "half_wave_v belongs to actuator 'squeezers'"),
        ("retardance_sigma_waves = 0.02", "retardance_sigma_waves = 0", "greater than 0"),
        ('"paddle-2", "paddle-3"]', '"paddle-2"]', "one knob per retarder"),
    ],
    ids=["number", "a-wave", "actuator", "no-actuator", "foreign-key", "sigma", "knobs"],
)
def test_a_mistake_about_paddles_is_told_once_and_clearly(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    (problem,) = mistakes_in(tmp_path, old, new, PADDLES)

    assert "stages.polarization" in problem
    assert said in problem


CELLS = EXAMPLE.with_name("liquid-crystals.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('unit = "waves"', 'unit = "rad"', "knobs.cell-1: drives a variable retarder and does not"),
        ("1.087, 1.05", "1.05, 1.087", "knobs.cell-1.curve: the values of a curve must"),
        ("drive = [1.25, ", "drive = [", "12 drives and 13 values"),
        ("azimuth_deg = [0, 90, 0]", "azimuth_deg = [0, 90]", "knows 2 retarders (azimuth_deg)"),
        ('actuator = "retarders"', "", "offset_sigma_waves belongs to actuator 'retarders'"),
    ],
    ids=["unit", "curve", "length", "number", "no-actuator"],
)
def test_a_mistake_about_variable_retarders_is_told_once_and_clearly(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    (problem,) = mistakes_in(tmp_path, old, new, CELLS)

    assert said in problem


TIME_BIN = EXAMPLE.with_name("time-bin.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('encoding = "time-bin"', 'encoding = "polarization"', "stages.polarization: is missing"),
        ("[stages.phase]", "[stages.phases]", "did you mean 'phase'?"),
        ('knob = "phase"', 'knob = "piezo"', "stages.phase.knob: there is no knob 'piezo'"),
        ("half_wave_v = 12.0 ", "half_wave_v = -1.0 ", "stages.phase.half_wave_v"),
        ("gate_ps = 1600", "gate_ps = 2500", "two detectors share an input"),
        ('source = "pattern"', 'source = "scan"', "two detectors share an input"),
        ("H = -800", "H = 1100", "two detectors share an input"),
        ("interferometer_ps = 2000.0", "", "stages.delay.interferometer_ps: is missing"),
        ("interferometer_ps = 2000.0", "interferometer_ps = 4e3", "more than a third of a slot"),
        ("D = 2, A = 3 }", "D = 2, A = 2 }", "share an input"),
        ("H = 1, V = 1", "H = 4, V = 1", "early from late at one input only"),
    ],
    ids=[
        "encoding",
        "stage",
        "knob",
        "half-wave",
        "gate",
        "scan",
        "delays",
        "no interferometer",
        "long interferometer",
        "phases at one input",
        "early and late apart",
    ],
)
def test_a_mistake_about_interferometers_is_told_once_and_clearly(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert said in mistakes_in(tmp_path, old, new, TIME_BIN)[0]


def test_a_stage_of_another_encoding_is_refused(tmp_path: Path) -> None:
    stage = '[stages.phase]\nknob = "squeezer-1"\nhalf_wave_v = 2.5\n\n[tracking]'
    (problem,) = mistakes_in(tmp_path, "[tracking]", stage)
    assert "stages.phase: has no place in a link of encoding 'polarization'" in problem


FULL = EXAMPLE.with_name("full-bench.toml")


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ('power_meter = "monitor"', 'power_meter = "no"', "attenuation.power_meter", "'no'"),
        ('knob = "modulator-bias"', 'knob = "modulator"', "bias.knob", "there is no knob"),
        (
            'knob = "modulator-bias"',
            'knob = "modulator-bias"\ncontroller = "bias-source"',
            "stages.bias",
            "either the knob",
        ),
        ('vacuum = "vacuum"', 'vacuum = "signal"', "bias.vacuum", "beside the signal"),
        ('vacuum = "vacuum"', 'vacuum = "empty"', "bias.vacuum", "no intensity 'empty'"),
        ('H = "bias-h", V', 'H = "bias-x", V', "detector.knobs", "there is no knob 'bias-x'"),
        ('H = "bias-h", V', 'H = "bias-v", V', "detector", "share a knob"),
        ('H = "bias-h", V', "V", "detector", "one for each of H, V, D and A"),
        ('["modulator-bias", ', '["squeezer-1", ', "key-rate.knobs", "the tracker moves it"),
        ('["modulator-bias", ', '["bias-x", ', "key-rate.knobs", "there is no knob 'bias-x'"),
        ('["modulator-bias", ', '["bias-a", ', "key-rate", "named twice"),
    ],
)
def test_a_stage_before_the_alignment_names_only_what_is_there(
    tmp_path: Path, old: str, new: str, key: str, said: str
) -> None:
    (problem,) = mistakes_in(tmp_path, old, new, FULL)

    assert key in problem
    assert said in problem


def test_counters_cannot_do_the_stages_that_need_slots(tmp_path: Path) -> None:
    problems = mistakes_in(tmp_path, 'source = "pattern"', 'source = "scan"', FULL)

    stages = [problem.split(": ")[1] for problem in problems]
    assert stages == ["stages.bias", "stages.delay", "stages.key-rate"]


FOUR_PHASE = EXAMPLE.with_name("four-phase.toml")


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ('V = "drive-v"', 'V = "drive-x"', "modulation.states", "there is no knob 'drive-x'"),
        ('V = "drive-v"', 'X = "drive-v"', "modulation.states.X", "states are H, V, D or A"),
        ('V = "drive-v"', 'H = "drive-v"', "stages.modulation", "it is the reference"),
        ('V = "drive-v"', 'V = "drive-d"', "stages.modulation", "give each its own"),
        ("half_wave_v = 4.0", "", "stages.modulation", "states need half_wave_v"),
        (
            "intensity_half_wave_v = 5.0",
            "",
            "stages.modulation",
            "intensities need intensity_half_wave_v",
        ),
        ("{ decoy = ", "{ signal = ", "modulation.intensities.signal", "compared with"),
        ("{ decoy = ", "{ vacuum = ", "modulation.intensities.vacuum", "leave it to stages.bias"),
        ("{ decoy = ", "{ bright = ", "modulation.intensities.bright", "no intensity 'bright'"),
        ("decoy = 0.1", "decoy = 0.6", "modulation.intensities.decoy", "no darker than 'signal'"),
        ('"four-phase"', '"time-bin"', "modulation.states", "time-bin makes H and V by intensity"),
    ],
)
def test_the_modulation_stage_names_drives_that_can_be_what_they_are_said_to_be(
    tmp_path: Path, old: str, new: str, key: str, said: str
) -> None:
    problem = mistakes_in(tmp_path, old, new, FOUR_PHASE)[-1]

    assert key in problem
    assert said in problem


def test_counters_cannot_tell_the_angles_of_states(tmp_path: Path) -> None:
    problems = mistakes_in(tmp_path, 'source = "pattern"', 'source = "scan"', FOUR_PHASE)

    assert any("stages.modulation" in each and 'source = "pattern"' in each for each in problems)


def test_an_unknown_instrument_that_is_watched_is_named(tmp_path: Path) -> None:
    table = '[watch.laser]\ninstrument = "tc"\nquantity = "temperature"\nmaximum = 24\n\n[light]'
    (problem,) = mistakes_in(tmp_path, "[light]", table)
    assert "watch.laser.instrument" in problem
    assert "there is no instrument 'tc'" in problem


def test_a_watched_band_without_an_end_is_named(tmp_path: Path) -> None:
    table = '[watch.laser]\nquantity = "detection-rate"\n\n[light]'
    (problem,) = mistakes_in(tmp_path, "[light]", table)
    assert "watch.laser" in problem
    assert "neither minimum nor maximum" in problem


FEED = EXAMPLE.with_name("feed.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('source = "feed"  ', 'source = "scan"  ', 'calibrate_by goes with source = "feed"'),
        ('calibrate_by = "pattern"', "# nothing", "has no calibration to take turns with"),
        ('tagger = "tagger"', "# nothing", "tagger is missing"),
        ("timeout_s = 10.0", "timeout_s = 0", "feed.timeout_s"),
    ],
)
def test_a_mistake_about_the_feed_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert any(said in problem for problem in mistakes_in(tmp_path, old, new, FEED))


def test_a_feed_that_nothing_reads_is_named(tmp_path: Path) -> None:
    (problem,) = mistakes_in(tmp_path, "[light]", "[feed]\ntimeout_s = 5\n[light]")
    assert 'set receiver.source = "feed"' in problem
