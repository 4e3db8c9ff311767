"""What a call does that cannot announce itself, or comes second: it leaves, and answers why in words."""

from typing import Any

import pytest
from modal import exception as modal_errors

from modal_apps import announce, renderer, trainer
from modal_apps.announce import SUPERSEDED, Announcement, ContainerStart, announce_or_leave
from modal_apps.container import Container
from modal_apps.envelope import Envelope, parse
from modal_apps.signing import AttemptOf
from workers.overflow.classify import CallFailed, classify
from workers.overflow.modal_sdk.port import Returned

HERE = ContainerStart("ta-1", 1.0)
ANNOUNCED = Announcement("video_1", 1, "fc-1", 2.0, (HERE,))


@pytest.mark.parametrize("error", [modal_errors.ServiceError("away"), modal_errors.AuthError("no"), OSError("broken")])
def test_one_that_cannot_announce_itself_says_so_and_may_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: object) -> None:
        raise error

    monkeypatch.setattr(announce, "announce", away)
    announced, leaves = announce_or_leave(AttemptOf("video_1", 1), HERE)
    assert announced is None
    assert leaves is not None
    assert (leaves.cause, leaves.retryable) == ("not_announced", True)
    assert str(error) in leaves.message


def test_one_that_is_first_works_and_a_second_one_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "announce", lambda *_: ANNOUNCED)
    assert announce_or_leave(AttemptOf("video_1", 1), HERE) == (ANNOUNCED, None)
    monkeypatch.setattr(announce, "announce", lambda *_: None)
    assert announce_or_leave(AttemptOf("video_1", 1), HERE) == (None, SUPERSEDED)


def test_one_that_runs_by_hand_announces_nothing() -> None:
    assert announce_or_leave(None, HERE) == (None, None)


def _answered_by_renderer() -> Any:
    render: Any = renderer.Renderer
    return render().render.local({}, ("video_1", 1))


def _answered_by_trainer() -> Any:
    session: Any = trainer.Session()
    session.container = Container()
    return trainer.Session.train._get_raw_f()(session, {}, ("ftjob_1", 1))  # type: ignore[attr-defined]  # Modal's wrapper


@pytest.mark.parametrize("answered", [_answered_by_renderer, _answered_by_trainer])
def test_both_apps_answer_it_by_an_envelope_and_raise_nothing(monkeypatch: pytest.MonkeyPatch, answered: Any) -> None:
    # Given a Dict of Modal's that is away
    def away(*_: object) -> None:
        raise modal_errors.ServiceError("away")

    monkeypatch.setattr(announce, "announce", away)
    # When a call begins
    wire = answered()
    # Then it answers, and the attempt ends, to be tried again
    assert isinstance(parse(wire), Envelope)
    ending = classify(Returned(wire))
    assert isinstance(ending, CallFailed)
    assert (str(ending.cause), ending.retryable) == ("not_announced", True)
