"""What becomes of inputs when their container dies, or does not come up."""

from collections.abc import Callable, Sequence

from modal_local.context import Context
from modal_local.records import ContainerRecord, InputRecord
from modal_local.scheduler.autoscale import backoff_s
from modal_local.scheduler.dispatch import Dispatcher
from modal_local.scheduler.endings import EndWith, RunAgain, after_death, death_result
from modal_local.scheduler.pool import Pool
from modal_local.settings import CrashPolicy

# Ends that somebody wished for: not the input's fault, and no crash.
_WISHED = ("preempted", "cancelled", "did not cancel")
_NO_FAILED_START = ("scaledown", "server", "app", "redeploy", "made")


class Deaths:
    """Sees to it that a dead container's inputs run again, or end as the policy says.

    Args:
        context: what services share.
        dispatcher: where inputs go on.
        policy: what holds now, and how many deaths it forgives; faults change it.
    """

    def __init__(self, context: Context, dispatcher: Dispatcher, policy: Callable[[], tuple[CrashPolicy, int]]) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._policy = policy

    def died(self, pool: Pool, container: ContainerRecord, lost: Sequence[InputRecord]) -> None:
        """A container is gone, with these inputs in its hands."""
        if lost:
            self._rescue(pool, container, lost)
        elif not container.ready_at and not container.end_reason.startswith(_NO_FAILED_START):
            self._start_failed(pool, container)

    def _rescue(self, pool: Pool, container: ContainerRecord, lost: Sequence[InputRecord]) -> None:
        policy, forgiven = self._policy()
        wished = container.end_reason in _WISHED
        if not wished:
            pool.crashes += 1
            pool.blocked_until = self._context.clock.steady() + backoff_s(pool.crashes - 2)
        for record in reversed(lost):
            if wished:
                self._dispatcher.run_again(record, 0.0)
                continue
            record.crashes += 1
            match after_death(policy, forgiven, record.crashes, container.exit_code):
                case RunAgain(delay_s):
                    self._dispatcher.run_again(record, delay_s)
                case EndWith(result):
                    self._dispatcher.end_with(record, result)

    def _start_failed(self, pool: Pool, container: ContainerRecord) -> None:
        pool.init_failures += 1
        pool.blocked_until = self._context.clock.steady() + backoff_s(pool.init_failures)
        if pool.init_failures < self._context.settings.init_failure_limit:
            return
        if container.failure is not None:
            result = container.failure
        elif (policy := self._policy()[0]) == "reschedule":
            return
        else:
            result = death_result(policy, container.exit_code)
        while (record := pool.next_input()) is not None:
            self._dispatcher.end_with(record, result)
