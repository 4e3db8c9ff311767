"""A background service starts, is ready, stops, and may be stopped twice or unstarted."""

from infra.background import BackgroundService


class _Counts(BackgroundService):
    def __init__(self) -> None:
        super().__init__("counts")
        self.ended = False

    def run(self) -> None:
        self.is_ready.set()
        self.stopping.wait()
        self.ended = True


def test_it_runs_until_it_is_stopped_and_may_be_stopped_twice() -> None:
    service = _Counts()
    assert not service.ready(0)
    service.start()
    assert service.ready(5)
    assert not service.ended
    service.stop()
    service.stop()
    assert service.ended


def test_one_that_was_never_started_can_be_stopped() -> None:
    service = _Counts()
    service.stop()
    assert not service.ended


class _CrashesOnce(BackgroundService):
    PAUSE_AFTER_CRASH_S = 0.01

    def __init__(self) -> None:
        super().__init__("crashes")
        self.runs = 0

    def run(self) -> None:
        self.runs += 1
        if self.runs == 1:
            raise RuntimeError("once")
        self.is_ready.set()
        self.stopping.wait()


def test_one_that_crashes_is_begun_again() -> None:
    service = _CrashesOnce()
    service.start()
    assert service.ready(5)
    assert service.runs == 2
    service.stop()
