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
        ('actuator = "paddles"', 'actuator = "paddle"', "'squeezers' or 'paddles'"),
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
