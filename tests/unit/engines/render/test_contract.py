"""The wire form of a request: what goes in comes out, and what is wrong is refused by name."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.render import contract
from engines.render.contract import RenderRequest
from engines.render.errors import (
    EncodingFailed,
    InvalidRenderRequest,
    RenderCancelled,
    RenderError,
    RenderOutOfMemory,
    UnknownEngine,
)

REQUEST = RenderRequest(prompt="a boat", width=1280, height=720, seconds=4, fps=24, seed=7)

_even_sides = st.integers(contract.MIN_SIDE_PX // 2, 2_048 // 2).map(lambda half: half * 2)
_prompts = st.text(min_size=1, max_size=200).filter(lambda text: text.strip())
_requests = st.builds(
    RenderRequest,
    prompt=_prompts,
    width=_even_sides,
    height=_even_sides,
    seconds=st.integers(1, contract.MAX_SECONDS),
    fps=st.integers(1, contract.MAX_FPS),
    seed=st.integers(0, contract.MAX_SEED),
    engine=st.sampled_from(["procedural", "other"]),
)
_json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(_requests)
def test_a_request_survives_the_wire(request_: RenderRequest) -> None:
    # given any valid request / when it goes through JSON / then the same request comes out
    assert RenderRequest.from_wire(json.loads(json.dumps(request_.to_wire()))) == request_


@given(field=st.sampled_from([field.name for field in dataclasses.fields(RenderRequest)]), value=_json_values)
def test_any_value_in_any_field_is_taken_or_refused_by_name(field: str, value: object) -> None:
    # given a valid wire form with one field replaced by anything that JSON can hold
    wire = REQUEST.to_wire() | {field: value}
    # when it is read / then it is either taken as it is, or the error names that field
    refusal: InvalidRenderRequest | None = None
    try:
        taken = RenderRequest.from_wire(wire)
        assert getattr(taken, field) == value
        assert type(getattr(taken, field)) is type(value)
    except InvalidRenderRequest as error:
        refusal = error
    assert refusal is None or json.loads(json.dumps(refusal.details()))["field"] == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", " \n\t "),
        ("prompt", "x" * 32_001),
        ("prompt", None),
        ("prompt", "\ud800"),
        ("seconds", 0),
        ("seconds", -1),
        ("seconds", 10**9),
        ("seconds", "abc"),
        ("seconds", "4"),
        ("seconds", 4.0),
        ("seconds", True),
        ("seconds", float("nan")),
        ("fps", 0),
        ("fps", 61),
        ("width", 1281),
        ("width", 62),
        ("width", 10**6),
        ("height", 719),
        ("height", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("engine", ""),
        ("engine", 5),
    ],
)
def test_bad_values_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidRenderRequest) as caught:
        RenderRequest.from_wire(REQUEST.to_wire() | {field: value})
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: expected ")
    assert len(str(caught.value)) < 400


def test_the_longest_prompt_is_taken() -> None:
    assert len(dataclasses.replace(REQUEST, prompt="x" * 32_000).prompt) == 32_000


def test_a_picture_may_be_long_on_either_side_but_not_on_both() -> None:
    # given 3840 is allowed for each side / when both have it / then the area is refused
    assert dataclasses.replace(REQUEST, width=3_840, height=2_160).frames == 96
    with pytest.raises(InvalidRenderRequest, match="pixels"):
        dataclasses.replace(REQUEST, width=3_840, height=3_840)


@pytest.mark.parametrize("name", ["prompt", "width", "height", "seconds", "fps", "seed"])
def test_a_missing_field_is_named(name: str) -> None:
    wire = REQUEST.to_wire()
    del wire[name]
    with pytest.raises(InvalidRenderRequest) as caught:
        RenderRequest.from_wire(wire)
    assert caught.value.field == name


def test_the_engine_may_be_left_out() -> None:
    wire = REQUEST.to_wire()
    del wire["engine"]
    assert RenderRequest.from_wire(wire).engine == "procedural"


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(InvalidRenderRequest) as caught:
        RenderRequest.from_wire(REQUEST.to_wire() | {"bitrate": 5})
    assert caught.value.field == "bitrate"


@pytest.mark.parametrize("wire", [None, [], "prompt", 5])
def test_what_is_no_object_is_refused(wire: object) -> None:
    with pytest.raises(InvalidRenderRequest):
        RenderRequest.from_wire(wire)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize(
    "error",
    [
        InvalidRenderRequest("seconds", -1, "a whole number from 1 to 60"),
        UnknownEngine("other", ("procedural",)),
        RenderCancelled(3, 96),
        RenderOutOfMemory("cuda"),
        RenderOutOfMemory("host"),
        EncodingFailed("no space left"),
    ],
)
def test_errors_cross_process_borders_whole(error: RenderError) -> None:
    # given an error / when it is pickled and read again / then nothing is lost, and its data is JSON
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.details() == error.details()
    assert json.loads(json.dumps(error.details())) == error.details()


def test_the_contract_and_the_registry_load_no_heavy_package() -> None:
    # given a fresh interpreter / when contract, errors and registry are imported / then numpy, av and Pillow are not
    heavy = ["numpy", "av", "PIL", "celery", "redis", "modal", "boto3", "torch"]
    code = (
        "import sys, engines.render.contract, engines.render.errors, engines.render.registry;"
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "[]"
