"""Faults as data: what is read, and what is refused."""

import pickle

import modal
import pytest
from modal_proto import api_pb2

from modal_local.faults.model import KINDS, ActiveFault, Fault, FaultError, read_fault, read_script
from modal_local.faults.results import injected_result

RESULT = api_pb2.GenericResult


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_read(kind: str) -> None:
    needed = {"gpu_exhausted": {"gpu": "H100"}, "stream_limit": {"limit": 5}, "status": {"status": "ABORTED"}}.get(
        kind, {}
    )
    assert read_fault({"kind": kind, **needed}).kind == kind


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"kind": "x"},
        {"kind": "kill", "count": "3"},
        {"kind": "kill", "count": True},
        {"kind": "kill", "who": 1},
        {"kind": "status"},
        {"kind": "status", "status": "OK"},
        {"kind": "result", "status": "SUCCESS"},
        {"kind": "result", "exception": "os; x"},
    ],
)
def test_nonsense_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(FaultError):
        read_fault(data)


def test_a_script_with_scripted_and_random_faults() -> None:
    script = read_script(
        'seed = 3\n[[fault]]\nkind = "kill"\nat_s = 2.5\n[[random]]\nmean_interval_s = 5\nkinds = ["oom"]\n'
    )
    assert script.seed == 3
    assert script.faults == (Fault("kill", at_s=2.5),)
    assert script.random[0].kinds == ("oom",)


@pytest.mark.parametrize(
    "text", ["=", "colour = 1", "[[random]]\nmean_interval_s = 0", '[[random]]\nmean_interval_s = 1\nkinds = ["x"]']
)
def test_a_bad_script_is_refused(text: str) -> None:
    with pytest.raises(FaultError):
        read_script(text)


def test_a_fault_is_over_when_its_time_or_its_count_is() -> None:
    timed = ActiveFault("ft", Fault("latency"), ends_at=10.0, left=None)
    assert (timed.over(9.9), timed.over(10.0)) == (False, True)
    counted = ActiveFault("ft", Fault("latency"), ends_at=None, left=2)
    counted.strike()
    assert not counted.over(0.0)
    counted.strike()
    assert counted.over(0.0)


@pytest.mark.parametrize(
    ("exception", "kind"),
    [("VersionError", modal.exception.VersionError), ("builtins.KeyError", KeyError), ("ImageBuildError", None)],
)
def test_an_injected_exception_is_a_pickle_of_it(exception: str, kind: type[Exception] | None) -> None:
    result = injected_result("", exception, "two\nlines \u2713")
    raised = pickle.loads(result.data)  # noqa: S301 - made above
    assert type(raised) is (kind or modal.exception.ImageBuildError)
    assert raised.args[0] == "two\nlines \u2713"


def test_a_status_alone_has_no_exception() -> None:
    result = injected_result("TIMEOUT", "", "late")
    assert (result.status, result.data, result.exception) == (RESULT.GENERIC_STATUS_TIMEOUT, b"", "late")
