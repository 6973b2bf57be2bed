"""What the console's page asks for, as JSON: routes below `/console/api/`. What they show is made elsewhere.

Everything is read beside the event loop (reader.py). The door of the admin port has judged already who asks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any, get_args

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lectr_extproc import limits
from lectr_extproc.core import anomalies, recommend
from lectr_extproc.core.anomalies import Anomaly, Learning
from lectr_extproc.core.recommend import Recommendation
from lectr_extproc.core.report import Filters
from lectr_extproc.core.views import DAY_S, By, Misasked, named, number, question
from lectr_extproc.edge.live import VERSION, Live
from lectr_extproc.edge.logs import without_keys
from lectr_extproc.edge.reader import Kept, Reader
from lectr_extproc.edge.store import Store, Unavailable, Unusable
from lectr_extproc.edge.views import LAST_SEQ
from lectr_extproc.settings import Settings
from lectr_extproc.settings_shown import shown

API = "/console/api/"
PAGE_CALLS, MOST_PAGE_CALLS = 50, 200
MOST_LIMITS = 200

_BYS: tuple[By, ...] = get_args(By)

_Answer = Callable[[Request], Awaitable[object]]


class Nothing(Exception):  # noqa: N818
    """There is no such thing."""


class Console:
    """One per process."""

    def __init__(self, live: Live, open_reader: Callable[[], Store]) -> None:
        self._live = live
        self.reader = Reader(open_reader)
        self._slow = Reader(open_reader)
        "What takes long keeps nobody waiting who asks for something else."
        self._advice = Kept(self._find_advice)
        self._unusual = Kept(self._find_unusual)
        self._shown: tuple[Settings, dict[str, Any]] | None = None
        "Reading very many orgs takes a second: once for each reading of the file is enough."

    def begin(self, store: Callable[[], Store]) -> None:
        """There is a ledger from now on, which writes to this store."""
        self.reader.store = self._slow.store = store

    async def close(self) -> None:
        """Nobody asks any more."""
        for reader in (self.reader, self._slow):
            await reader.close()

    def routes(self) -> list[Route]:
        """All that can be asked."""
        answers: Mapping[str, _Answer] = {
            "overview": self._overview,
            **{by: partial(self._groups, by) for by in _BYS},
            "providers": self._providers,
            "choices": self._choices,
            "calls": self._calls,
            "recommendations": self._recommendations,
            "anomalies": self._anomalies,
            "limits": self._limits,
            "settings": self._settings,
            "{other:path}": _elsewhere,
        }
        dismiss = Route(f"{API}anomalies/{{id}}/dismiss", _endpoint(self._dismiss), methods=["POST"])
        return [dismiss, *(Route(API + path, _endpoint(answer)) for path, answer in answers.items())]

    # --- what calls add up to -----------------------------------------------------------------------------------------

    async def _overview(self, request: Request) -> object:
        asked = question(request.query_params, _now_s())
        return await self.reader.ask(lambda store: store.views.overview(asked))

    async def _groups(self, by: By, request: Request) -> dict[str, Any]:
        asked = question(request.query_params, _now_s())
        return await self.reader.ask(lambda store: store.views.groups(by, asked))

    async def _providers(self, request: Request) -> object:
        rows = await self._groups("providers", request)
        vitals = self._live.vitals
        breakers = [one | {"until": one.pop("until_s")} for one in vitals.breakers()]
        return {**rows, "breakers": breakers, "first_tokens": vitals.first_tokens()}

    async def _choices(self, request: Request) -> object:
        asked = question({k: v for k, v in request.query_params.items() if k in _RANGE}, _now_s())
        return await self.reader.ask(lambda store: store.views.choices(asked))

    async def _calls(self, request: Request) -> object:
        asked = request.query_params
        limit = number(asked, "limit", PAGE_CALLS, 1, MOST_PAGE_CALLS)
        before, after = number(asked, "before", LAST_SEQ, 1, LAST_SEQ), number(asked, "after", 0, 0, LAST_SEQ)
        bounds = question(asked, _now_s()).filters
        filters = replace(
            bounds,
            since_s=bounds.since_s if "since" in asked else None,
            until_s=bounds.until_s if "until" in asked else None,
        )
        return await self.reader.ask(lambda store: store.views.calls(filters, limit, before, after))

    # --- what follows from it -----------------------------------------------------------------------------------------

    async def _recommendations(self, request: Request) -> object:
        settings, wanted = self._live.settings, named(request.query_params)
        as_of, found = await self._advice.get(settings)
        chosen = [one for one in found or () if _is_of(one, wanted)]
        saving = sum((one.saving_usd for one in chosen), Decimal())
        return {
            "as_of": as_of,
            "days": settings.recommend.days,
            "saving_usd": saving if chosen else None,
            "recommendations": [asdict(one) for one in chosen],
        }

    async def _find_advice(self) -> list[Recommendation]:
        rule, snapshot, now_s = self._live.settings.recommend, self._live.snapshot, _now_s()
        market = recommend.Market(prices=snapshot.prices, lineup=snapshot.lineup, orgs=snapshot.orgs, at_s=now_s)
        filters = Filters(since_s=now_s - rule.days * DAY_S)
        return await self._slow.ask(lambda store: recommend.recommend(store.traffic(filters, rule), market, rule))

    async def _anomalies(self, request: Request) -> object:
        settings, wanted = self._live.settings, named(request.query_params)
        as_of, found = await self._unusual.get(settings)
        unusual, learning = found or ([], [])
        return {
            "as_of": as_of,
            "days": settings.anomalies.days,
            "anomalies": [_anomaly(one) for one in unusual if _is_of(one, wanted)],
            "learning": [one._asdict() for one in learning if _is_of(one, wanted)],
        }

    async def _find_unusual(self) -> tuple[list[Anomaly], list[Learning]]:
        rule, now_s = self._live.settings.anomalies, _now_s()

        def read(store: Store) -> tuple[list[Anomaly], list[Learning]]:
            hours = store.hours(Filters(since_s=anomalies.since_s(now_s, rule)))
            found = anomalies.find(hours, store.dismissals(), now_s, rule)
            return found, anomalies.learning(hours, now_s, rule)

        return await self._slow.ask(read)

    async def _dismiss(self, request: Request) -> object:
        _, found = await self._unusual.get(self._live.settings)
        unusual, learning = found or ([], [])
        one = next((one for one in unusual if one.id == request.path_params["id"]), None)
        if one is None or self.reader.store is None:
            raise Nothing("there is no such anomaly")
        await asyncio.to_thread(self.reader.store().dismiss, one.dismissal())
        self._unusual.found = [replace(each, dismissed=each.dismissed or each is one) for each in unusual], learning
        self._unusual.outdate()  # its hours are no measure of what is usual any more
        return {"id": one.id, "dismissed": True}

    # --- what is in force ---------------------------------------------------------------------------------------------

    async def _limits(self, request: Request) -> object:
        rows = limits.limits_of(self._live.snapshot, request.query_params.get("org"))
        now_ns, problem = time.time_ns(), None
        counted: Mapping[str, Mapping[int, int]] | None = None
        try:
            counted = await self.reader.ask(lambda store: store.counters.read(rows[:MOST_LIMITS], now_ns))
        except (Unavailable, Unusable) as error:
            problem = str(error)
        shown = limits.as_rows(rows[:MOST_LIMITS], counted, now_ns)
        return {"limits": shown, "more": max(0, len(rows) - MOST_LIMITS), "problem": problem}

    async def _settings(self, _: Request) -> object:
        live = self._live
        if self._shown is None or self._shown[0] is not live.settings:
            self._shown = live.settings, await asyncio.to_thread(shown, live.settings)
        return {
            "version": VERSION,
            "problem": live.settings_problem,
            "warnings": live.settings.warnings,
            "prices": {"version": live.snapshot.prices.version, "problem": live.prices_problem},
            "settings": self._shown[1],
        }


async def _elsewhere(_: Request) -> object:
    raise Nothing("there is no such view")


_RANGE = frozenset({"since", "until", "calls"})


def _now_s() -> int:
    return int(time.time())


def _is_of(one: Recommendation | Anomaly | Learning, wanted: Mapping[str, str]) -> bool:
    return all((getattr(one, name) or "") == wanted[name] for name in ("org", "feature") if name in wanted)


def _anomaly(one: Anomaly) -> dict[str, Any]:
    fields = asdict(one)
    return {name: value for name, value in fields.items() if not name.endswith("_hour")} | {"text": anomalies.what(one)}


def _plain(value: Any) -> Any:
    """Moments as seconds since 1970, days and money as text."""
    match value:
        case datetime():
            return int(value.timestamp())
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case _:
            raise TypeError(type(value).__name__)


_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


def _endpoint(answer: _Answer) -> Callable[[Request], Awaitable[Response]]:
    """With every failure as JSON, and no key in what clients named."""

    async def respond(request: Request) -> Response:
        try:
            found = await answer(request)
        except Misasked as error:
            return _failed(400, "bad_request", str(error))
        except Nothing as error:
            return _failed(404, "not_found", str(error))
        except (Unavailable, Unusable) as error:
            return _failed(503, "ledger_unavailable", str(error))
        return Response(await asyncio.to_thread(_encoded, found), media_type="application/json")

    return respond


def _encoded(found: object) -> str:
    return without_keys(orjson.dumps(found, _plain, _OPTIONS).decode())


def _failed(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"code": code, "message": message}}, status)
