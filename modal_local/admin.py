"""The admin API: what is going on, what it costs, and faults. JSON over HTTP, loopback only, under `/admin`."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web

from modal_local.callbook import CallBook
from modal_local.context import Context
from modal_local.errors import NotFoundError, RpcError
from modal_local.faults.injector import FaultInjector
from modal_local.faults.model import ActiveFault, FaultError, read_fault
from modal_local.prices import PriceTable
from modal_local.records import CallRecord
from modal_local.registry import Registry
from modal_local.rpc import RpcRouter
from modal_local.scheduler.engine import Scheduler
from modal_local.schedules.service import ScheduleService
from modal_local.services.billing import Lifetime, costs_within
from modal_local.services.containers import LIFETIMES

_DEFAULT_LIMIT = 1_000
_FARTHEST_S = 10 * 366 * 86400.0


class AdminService:
    """Serves the routes of docs/modal_local.md. `router` is set once it is built."""

    def __init__(
        self,
        context: Context,
        registry: Registry,
        book: CallBook,
        scheduler: Scheduler,
        injector: FaultInjector,
        prices: PriceTable,
        schedules: ScheduleService,
    ) -> None:
        self._context = context
        self._registry = registry
        self._book = book
        self._scheduler = scheduler
        self._injector = injector
        self._prices = prices
        self._schedules = schedules
        self.router: RpcRouter | None = None

    def routes(self) -> list[web.RouteDef]:
        """All routes."""
        return [
            web.get("/admin/health", self._guard(self._health)),
            web.get("/admin/apps", self._guard(self._apps)),
            web.get("/admin/apps/{app_id}", self._guard(self._app)),
            web.get("/admin/calls", self._guard(self._calls)),
            web.get("/admin/calls/{call_id}", self._guard(self._call)),
            web.get("/admin/containers", self._guard(self._containers)),
            web.get("/admin/pools", self._guard(self._pools)),
            web.get("/admin/spend", self._guard(self._spend)),
            web.get("/admin/rpcs", self._guard(self._rpcs)),
            web.get("/admin/schedules", self._guard(self._list_schedules)),
            web.get("/admin/clock", self._guard(self._clock)),
            web.post("/admin/clock", self._guard(self._move_clock)),
            web.get("/admin/faults", self._guard(self._faults)),
            web.post("/admin/faults", self._guard(self._inject)),
            web.delete("/admin/faults", self._guard(self._clear)),
            web.delete("/admin/faults/{fault_id}", self._guard(self._clear)),
        ]

    def _guard(self, answer: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            # A page in a browser on this machine is on loopback too; it sends an Origin, our clients do not.
            if "Origin" in request.headers:
                return _error(403, "The admin API does not answer browsers.")
            try:
                return web.json_response(await answer(request))
            except NotFoundError as error:
                return _error(404, error.message)
            except (FaultError, ValueError) as error:
                return _error(400, str(error))
            except RpcError as error:
                return _error(409, error.message)

        return handle

    async def _health(self, request: web.Request) -> Any:
        return {
            "status": "ok",
            "calls": len(self._book.calls),
            "unfinished_inputs": sum(call.unfinished for call in self._book.calls.values()),
            "containers": len(self._scheduler.containers),
        }

    async def _apps(self, request: web.Request) -> Any:
        return {"apps": [app.as_json() for app in self._registry.apps.values()]}

    async def _app(self, request: web.Request) -> Any:
        return self._registry.app(request.match_info["app_id"]).as_json()

    async def _calls(self, request: web.Request) -> Any:
        limit = int(request.query.get("limit", _DEFAULT_LIMIT))
        state = request.query.get("state", "")
        calls = [self._describe(call) for call in reversed(self._book.calls.values())]
        return {"calls": [call for call in calls if state in ("", call["state"])][:limit]}

    async def _call(self, request: web.Request) -> Any:
        call = self._book.call(request.match_info["call_id"])
        inputs = [
            {
                "input_id": record.input_id,
                "index": record.index,
                "state": record.state.value,
                "attempt": record.attempt,
                "failures": record.failures,
                "crashes": record.crashes,
                "task_id": record.task_id,
                "started_at": record.started_at or None,
                "finished_at": record.finished_at or None,
                "status": record.output.result.status if record.output is not None else None,
            }
            for record in call.inputs.values()
        ]
        return {**self._describe(call), "inputs": inputs}

    def _describe(self, call: CallRecord) -> dict[str, Any]:
        function = self._registry.functions.get(call.function_id)
        return {
            "call_id": call.call_id,
            "function_id": call.function_id,
            "function_tag": function.tag if function is not None else "",
            "app_id": call.app_id,
            "created_at": call.created_at,
            "inputs_total": len(call.inputs),
            "inputs_unfinished": call.unfinished,
            "cancelled": call.cancelled,
            "state": "cancelled" if call.cancelled else "running" if call.unfinished else "done",
        }

    def _lifetimes(self) -> list[dict[str, Any]]:
        now = self._context.clock.now()
        rows = []
        for _, value in self._context.store.items(LIFETIMES):
            row = json.loads(value)
            row["seconds"] = max(0.0, (row["ended_at"] or now) - row["started_at"])
            costs = costs_within([Lifetime.load(value)], self._prices, 0.0, now, now)
            row["usd_micros"] = round(sum(costs.values()) * 1_000_000)
            rows.append(row)
        return sorted(rows, key=lambda row: float(row["started_at"]))

    async def _containers(self, request: web.Request) -> Any:
        living = self._scheduler.containers
        rows = []
        for row in self._lifetimes():
            container = living.get(row["task_id"])
            if container is None and request.query.get("live") == "1":
                continue
            row["state"] = container.state.value if container is not None else "ended"
            row["running_inputs"] = list(container.running) if container is not None else []
            row.setdefault("ready_at", None)
            rows.append(row)
        return {"containers": rows}

    async def _pools(self, request: web.Request) -> Any:
        pools = []
        for pool in self._scheduler.dispatcher.pools.values():
            tag = self._registry.functions[pool.function_id].tag
            pools.append(
                {
                    "function_id": pool.function_id,
                    "function_tag": tag,
                    "backlog": pool.backlog,
                    "running_inputs": pool.running,
                    "containers": len(pool.containers),
                    "init_failures": pool.init_failures,
                    "crashes": pool.crashes,
                    "settings": asdict(pool.settings),
                }
            )
        return {"pools": pools}

    async def _spend(self, request: web.Request) -> Any:
        keys = (
            *("function_id", "function_tag", "gpu_type", "gpu_count", "region", "nonpreemptible"),
            *("started_at", "ended_at", "seconds"),
        )
        rows = [
            {"id": row["task_id"], **{key: row[key] for key in keys}, "usd_micros": row["usd_micros"]}
            for row in self._lifetimes()
        ]
        return {"usd_micros": sum(row["usd_micros"] for row in rows), "containers": rows}

    async def _rpcs(self, request: web.Request) -> Any:
        if self.router is None:
            raise NotFoundError("The server is still starting.")
        return {"served": sorted(self.router.served), "calls": dict(sorted(self.router.calls.items()))}

    async def _list_schedules(self, request: web.Request) -> Any:
        return {
            "schedules": [
                {
                    "function_id": function.function_id,
                    "function_tag": function.tag,
                    "app_id": function.app_id,
                    "due_at": due_at,
                }
                for function, due_at in self._schedules.upcoming()
            ]
        }

    async def _clock(self, request: web.Request) -> Any:
        return {"now": self._context.clock.now(), "skew_s": self._context.clock.skew_s}

    async def _move_clock(self, request: web.Request) -> Any:
        data = await _body(request)
        by_s = data.get("advance_s")
        if not isinstance(by_s, int | float) or isinstance(by_s, bool) or not 0 <= by_s < _FARTHEST_S:
            raise ValueError(f"Expected `advance_s`, seconds from 0 up to ten years, got {by_s!r}.")
        self._context.clock.skew_s += by_s
        self._schedules.reconsider()
        return await self._clock(request)

    async def _faults(self, request: web.Request) -> Any:
        return {
            "active": [_fault_as_json(active) for active in self._injector.active()],
            "history": [
                {"at": at, "fault_id": fault_id, **asdict(fault)} for at, fault_id, fault in self._injector.history
            ],
        }

    async def _inject(self, request: web.Request) -> Any:
        data = await _body(request)
        self._schedules.reconsider()  # a fault may move the clock
        return _fault_as_json(self._injector.inject(read_fault(data)))

    async def _clear(self, request: web.Request) -> Any:
        return {"cleared": self._injector.clear(request.match_info.get("fault_id"))}


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        data = await request.json()
    except json.JSONDecodeError as error:
        raise ValueError(f"Expected a JSON object: {error}") from error
    if not isinstance(data, dict):
        raise ValueError("Expected a JSON object.")
    return data


def _fault_as_json(active: ActiveFault) -> dict[str, Any]:
    return {"fault_id": active.fault_id, "strikes": active.strikes, "left": active.left, **asdict(active.fault)}


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
