import inspect
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkdctl.verbs import VERBS, ErrorCode, OperationError, Operations, openrpc, shown

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def problem_with(verb: str, parameters: object) -> OperationError:
    with pytest.raises(OperationError) as caught:
        VERBS[verb].parse(verb, parameters)
    assert caught.value.code == ErrorCode.BAD_PARAMETERS
    return caught.value


def test_an_unknown_parameter_is_named_with_those_that_exist() -> None:
    problem = problem_with("knob_set", {"name": "epc-1", "value": 1.0, "volts": 2})

    assert str(problem) == (
        "knob_set: there is no parameter 'volts'; its parameters are: name, value"
    )


def test_a_missing_parameter_is_named() -> None:
    assert "parameter 'value' is missing" in str(problem_with("knob_set", {"name": "epc-1"}))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1.0", None])
def test_a_setting_that_is_no_finite_number_is_refused(value: object) -> None:
    assert "parameter 'value'" in str(problem_with("knob_set", {"name": "epc-1", "value": value}))


def test_a_whole_number_is_a_setting() -> None:
    assert VERBS["knob_set"].parse("knob_set", {"name": "epc-1", "value": 1}).value == 1.0


def test_parameters_by_position_are_refused() -> None:
    assert "given by name" in str(problem_with("knob_set", ["epc-1", 1.0]))


def test_parameters_may_be_left_out_where_all_have_defaults() -> None:
    assert VERBS["calibrate"].parse("calibrate", None).stages == []


@pytest.mark.parametrize("verb", VERBS)
@given(parameters=json_values)
def test_whatever_the_parameters_the_refusal_is_one_short_line(verb: str, parameters: Any) -> None:
    refusal = ""
    try:
        VERBS[verb].parse(verb, parameters)
    except OperationError as exc:
        refusal = str(exc)

    assert "\n" not in refusal
    assert len(refusal) < 1000


def test_a_callers_words_are_cut_and_escaped_when_they_are_repeated() -> None:
    assert shown("epc-1") == "'epc-1'"
    assert len(shown("x" * 10_000)) < 70
    assert "\n" not in shown("a\nb")


@pytest.mark.parametrize("verb", sorted(set(VERBS) - {"cancel", "calibrate", "subscribe"}))
async def test_results_are_what_the_table_promises(verb: str, operations: Operations) -> None:
    parameters = {
        "knob_set": {"name": "epc-1", "value": 1.0},
        "history": {"kind": "windows"},
    }.get(verb, {})
    call = VERBS[verb].call
    assert call is not None
    await operations.safe()  # so that there is something to resume

    result = await call(operations, VERBS[verb].parse(verb, parameters))

    VERBS[verb].result.validate_python(result)


def test_every_operation_has_a_verb() -> None:
    operations = {
        name for name, _ in inspect.getmembers(Operations, inspect.isfunction) if name[0] != "_"
    }

    assert operations - {"events"} == set(VERBS) - {"cancel", "subscribe"}


def test_the_api_document_describes_every_verb() -> None:
    document = json.loads(json.dumps(openrpc()))

    assert [method["name"] for method in document["methods"]] == list(VERBS)
    assert all(method["summary"] and method["result"]["schema"] for method in document["methods"])


def test_every_reference_of_the_api_document_leads_somewhere() -> None:
    document = openrpc()
    references = set[str]()

    def collect(node: object) -> None:
        if isinstance(node, dict):
            references.update(value for key, value in node.items() if key == "$ref")
            for item in node.values():
                collect(item)
        if isinstance(node, list):
            for item in node:
                collect(item)

    collect(document)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references
    assert references <= known


def test_the_api_document_tells_what_a_parameter_needs() -> None:
    [method] = [found for found in openrpc()["methods"] if found["name"] == "knob_set"]

    assert [(item["name"], item["required"]) for item in method["params"]] == [
        ("name", True),
        ("value", True),
    ]
