"""The bill: what each app's containers have cost, by hour or day, from when they lived and what they occupied.

It is computed from the table `containers` alone, which the core writes, and knows nothing of calls: so a ledger that
adds up calls can be checked against it.
"""
# ruff: noqa: N802 - methods have the names and the shape of the RPCs that they serve

import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from modal_proto import api_pb2

from modal_local.errors import InvalidArgumentError, NotFoundError
from modal_local.prices import PriceTable, Shape, cost_usd

if TYPE_CHECKING:
    from modal_local.context import Context
    from modal_local.rpc import Caller

_CONTAINERS: Final = "containers"
_APPS: Final = "apps"
_ENVIRONMENTS: Final = "environments"
_RESOLUTIONS_S: Final = {"h": 3600, "d": 86_400}
_ALL_TAGS: Final = "*"
# How a workspace's own summary names them, as one answered on 2026-09-16.
_DEPLOYED: Final = "deployed_apps"
_EPHEMERAL: Final = "ephemeral_apps"
_CREDITS: Final = "credits"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """When a container lived and what it occupied.

    Attributes:
        started_at: unix time in seconds, from which it costs.
        ended_at: unix time in seconds; None while it lives.
    """

    task_id: str
    app_id: str
    environment: str
    started_at: float
    ended_at: float | None
    shape: Shape

    @classmethod
    def load(cls, data: bytes) -> "Lifetime":
        """From a row of the table `containers`."""
        row = json.loads(data)
        return cls(
            task_id=row["task_id"],
            app_id=row["app_id"],
            environment=row["environment"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            shape=Shape(
                gpu_type=row["gpu_type"],
                gpu_count=row["gpu_count"],
                cpu_cores=row["cpu_cores"],
                memory_mib=row["memory_mib"],
                region=row.get("region", ""),
                nonpreemptible=row.get("nonpreemptible", False),
            ),
        )


Costs = dict[str, Decimal]


def costs_within(lives: Iterable[Lifetime], prices: PriceTable, start_s: float, end_s: float, now_s: float) -> Costs:
    """Dollars by resource for the parts of lives within a span."""
    total: Costs = defaultdict(Decimal)
    for life in lives:
        first, last = max(start_s, life.started_at), min(end_s, now_s if life.ended_at is None else life.ended_at)
        if last > first:
            for resource, price in prices.usd_micros_per_hour(life.shape).items():
                total[resource] += cost_usd(price, first, last, born_s=life.started_at)
    return dict(total)


def costs_by_interval(
    lives: Iterable[Lifetime], prices: PriceTable, start_s: float, end_s: float, step_s: int, now_s: float
) -> dict[tuple[int, str], Costs]:
    """Dollars by resource for each interval and app. An interval that is not whole before `end_s` is left out.

    Args:
        lives: of all containers.
        prices: to go by.
        start_s: unix seconds; the interval that it lies in is the first.
        end_s: unix seconds.
        step_s: length of an interval; intervals begin at its multiples.
        now_s: what is still alive costs up to now.

    Returns:
        By the interval's start in unix seconds and the app's id; intervals without costs are not there.
    """
    table: dict[tuple[int, str], Costs] = defaultdict(lambda: defaultdict(Decimal))
    earliest = int(start_s // step_s) * step_s
    for life in lives:
        last_s = now_s if life.ended_at is None else life.ended_at
        for begin in _intervals(max(earliest, life.started_at), min(end_s, last_s), step_s):
            if begin + step_s <= end_s:
                for resource, usd in costs_within([life], prices, begin, begin + step_s, now_s).items():
                    table[(begin, life.app_id)][resource] += usd
    return {key: dict(costs) for key, costs in sorted(table.items()) if any(costs.values())}


def _intervals(first_s: float, last_s: float, step_s: int) -> Iterator[int]:
    begin = int(first_s // step_s) * step_s
    while begin < last_s:
        yield begin
        begin += step_s


class BillingService:
    """Answers the billing RPCs.

    Args:
        context: of the server.
        prices: to go by.
        monthly_credit_usd: what the plan gives each month, taken off the billed cost.
    """

    def __init__(
        self, context: "Context", *, prices: PriceTable | None = None, monthly_credit_usd: Decimal = Decimal(0)
    ) -> None:
        self._context = context
        self._prices = prices or PriceTable()
        self._monthly_credit_usd = monthly_credit_usd

    async def WorkspaceBillingRates(self, request: Any, caller: "Caller") -> Any:
        """Prices: dollars per hour."""
        rates = {key: format(usd, "f") for key, usd in self._prices.rates().items()}
        width = max(map(len, rates))
        formatted = "\n".join(f"{key:<{width}}  ${usd} / hour" for key, usd in rates.items())
        return api_pb2.WorkspaceBillingRatesResponse(rates=rates, formatted=formatted)

    async def WorkspaceBillingReport(self, request: Any, caller: "Caller") -> AsyncGenerator[Any, None]:
        """Costs of each app in each interval."""
        step_s = _RESOLUTIONS_S.get(request.resolution)
        if step_s is None:
            raise InvalidArgumentError(f"Billing report: expected resolution 'd' or 'h', got {request.resolution!r}.")
        start_s, end_s = _seconds(request.start_timestamp), _seconds(request.end_timestamp)
        if end_s <= start_s:
            raise InvalidArgumentError("Billing report: expected a start before the end.")
        lives = list(self._lives(request.environment_ids, request.app_ids))
        environments = {life.app_id: life.environment for life in lives}
        table = costs_by_interval(lives, self._prices, start_s, end_s, step_s, self._context.clock.now())
        for (begin, app_id), costs in table.items():
            app = self._app(app_id)
            yield api_pb2.WorkspaceBillingReportItem(
                object_id=app_id,
                description=app.get("name") or app.get("description", ""),
                environment_name=environments[app_id],
                interval=Timestamp(seconds=begin),
                cost=_text(sum(costs.values(), Decimal(0))),
                cost_by_resource={resource: _text(usd) for resource, usd in costs.items()},
                tags=_chosen(app.get("tags", {}), request.tag_names),
            )

    async def WorkspaceBillingSummary(self, request: Any, caller: "Caller") -> Any:
        """Costs of a month, and what is billed of them."""
        start, end = _month(request.start_timestamp)
        metered, breakdown = self._month_costs(start, end, [])
        credit = min(metered, self._monthly_credit_usd)
        return api_pb2.WorkspaceBillingSummaryResponse(
            start_timestamp=_timestamp(start),
            end_timestamp=_timestamp(end),
            metered_cost=_text(metered),
            billed_cost=_text(metered - credit),
            metered_cost_breakdown=breakdown,
            adjustments={_CREDITS: _text(-credit)} if credit else {},
        )

    async def EnvironmentBillingSummary(self, request: Any, caller: "Caller") -> Any:
        """Costs of a month in one environment."""
        start, end = _month(request.start_timestamp)
        metered, breakdown = self._month_costs(start, end, [request.environment_id])
        return api_pb2.EnvironmentBillingSummaryResponse(
            start_timestamp=_timestamp(start),
            end_timestamp=_timestamp(end),
            metered_cost=_text(metered),
            metered_cost_breakdown=breakdown,
        )

    def _month_costs(
        self, start: datetime, end: datetime, environment_ids: list[str]
    ) -> tuple[Decimal, dict[str, str]]:
        kinds: Costs = {_DEPLOYED: Decimal(0), _EPHEMERAL: Decimal(0)}
        for life in self._lives(environment_ids, []):
            kind = _DEPLOYED if self._app(life.app_id).get("name") else _EPHEMERAL
            costs = costs_within([life], self._prices, start.timestamp(), end.timestamp(), self._context.clock.now())
            kinds[kind] += sum(costs.values(), Decimal(0))
        return sum(kinds.values(), Decimal(0)), {kind: _text(usd) for kind, usd in kinds.items()}

    def _lives(self, environment_ids: Iterable[str], app_ids: Iterable[str]) -> Iterator[Lifetime]:
        names = self._environment_names(list(environment_ids))
        apps = set(app_ids)
        for _, data in self._context.store.items(_CONTAINERS):
            life = Lifetime.load(data)
            if (names is None or life.environment in names) and (not apps or life.app_id in apps):
                yield life

    def _environment_names(self, environment_ids: list[str]) -> set[str] | None:
        if not environment_ids:
            return None
        known = {value.decode(): name for name, value in self._context.store.items(_ENVIRONMENTS)}
        unknown = [one for one in environment_ids if one not in known]
        if unknown:
            raise NotFoundError(f"Billing: environment {unknown[0]!r} not found.")
        return {known[one] for one in environment_ids}

    def _app(self, app_id: str) -> dict[str, Any]:
        data = self._context.store.get(_APPS, app_id)
        app: dict[str, Any] = {} if data is None else json.loads(data)
        return app


def _chosen(tags: dict[str, str], names: Iterable[str]) -> dict[str, str]:
    wanted = set(names)
    return {key: value for key, value in tags.items() if _ALL_TAGS in wanted or key in wanted}


def _month(stamp: Timestamp) -> tuple[datetime, datetime]:
    start = datetime.fromtimestamp(_seconds(stamp), UTC)
    if start != start.replace(day=1, hour=0, minute=0, second=0, microsecond=0):
        raise InvalidArgumentError(f"Billing summary: expected the first of a month in UTC, got {start.isoformat()}.")
    return start, start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)


def _seconds(stamp: Timestamp) -> float:
    return float(stamp.ToNanoseconds() / 1e9)


def _timestamp(moment: datetime) -> Timestamp:
    return Timestamp(seconds=int(moment.timestamp()))


def _text(usd: Decimal) -> str:
    return format(usd, "f")
