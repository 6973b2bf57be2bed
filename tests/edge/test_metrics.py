from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from unittest import mock

from opentelemetry.sdk.metrics import Histogram
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from lectr_extproc.core.pricing import Cost
from lectr_extproc.core.record import CallRecord
from lectr_extproc.core.usage import Usage
from lectr_extproc.edge.metrics import BREAKER_LIMIT, EVENTS, HELD_CALLS, METRICS, MODEL_LIMIT, IsKnown, Metrics
from tests.edge.conftest import Environment
from tests.edge.finished import call, models_list, turned_away

FIGURES = [figure for parts in EVENTS.values() for figure in parts]


class InTrouble:
    """A process that lost a batch and runs on old settings."""

    counts: Mapping[str, int] = {"batches_failed": 1, "decisions": 4}

    def events(self) -> Mapping[str, Any]:
        used = {"org": "acme", "for": "feature 'search'", "limit": "daily USD", "part": 0.25}
        return {**dict.fromkeys(FIGURES, 7), "oldest_unexported_s": None, "limits_used": [used]}

    def problems(self) -> Mapping[str, str | None]:
        return {"settings": "line 3: no", "prices": None}

    def breakers(self) -> Sequence[Mapping[str, Any]]:
        one = {"provider": "gemini", "host": "127.0.0.1:8443", "state": "half_open"}
        return [{**one, "model": f"{number}lc_key_0123456789abcdefghij"} for number in range(BREAKER_LIMIT + 1)]


class Metered:
    """Metrics, and what they say."""

    def __init__(
        self,
        is_known: IsKnown = lambda _provider, _model: False,
        reader: InMemoryMetricReader | None = None,
    ) -> None:
        self._reader = reader or InMemoryMetricReader()
        self._subject = Metrics([self._reader], Resource({}), is_known, InTrouble())

    def record(self, *records: CallRecord) -> "Metered":
        self._subject.record(records)
        return self

    def points(self) -> dict[str, Sequence[NumberDataPoint | HistogramDataPoint]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        return {metric.name: metric.data.data_points for metric in metrics}  # type: ignore[misc]

    def labels(self, name: str, label: str) -> set[Any]:
        return {(point.attributes or {}).get(label) for point in self.points()[name]}


def told(metered: Metered) -> set[str]:
    """Every point of a metric about calls, without its times."""
    points = [p for name, found in metered.points().items() if "llm" in name or "gen_ai" in name for p in found]
    return {str({**asdict(point), "start_time_unix_nano": 0, "time_unix_nano": 0}) for point in points}


COMMON = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-08-06",
}


def test_calls_that_are_alike_are_counted_together_and_exactly() -> None:
    points = Metered().record(call(), call(), call(cost=None)).points()
    asked = {tuple(sorted((p.attributes or {}).items())): p.value for p in points["lectr.llm.requests"]}  # type: ignore[union-attr]
    labels = COMMON | {"lectr.org": "acme", "lectr.feature": "search", "lectr.task": "summarisation"}
    assert asked == {
        tuple(sorted({**labels, "lectr.pricing_status": "priced"}.items())): 2,
        tuple(sorted(labels.items())): 1,
    }
    (cost,) = points["lectr.llm.cost"]
    assert cost.attributes == COMMON | {"lectr.org": "acme", "lectr.feature": "search"}
    assert cost.value == 0.0095  # type: ignore[union-attr]
    tokens = {(p.attributes or {})["gen_ai.token.type"]: p.value for p in points["lectr.llm.tokens"]}  # type: ignore[union-attr]
    assert tokens == {"input": 3600, "output": 900, "cache_read": 3000, "cache_write": 300, "reasoning": 600}


def test_each_call_is_in_the_histograms() -> None:
    points = Metered().record(call(), call(streaming=False)).points()
    (duration,) = points["gen_ai.client.operation.duration"]
    assert isinstance(duration, HistogramDataPoint)
    assert (duration.count, duration.sum) == (2, 5.00025)
    assert dict(duration.attributes or {}) == COMMON | {"server.address": "api.openai.com"}
    assert duration.explicit_bounds[0] == 0.01
    assert duration.explicit_bounds[-1] == 327.68
    (first,) = points["gen_ai.client.operation.time_to_first_chunk"]
    assert (first.count, first.sum) == (1, 0.4205)  # type: ignore[union-attr]
    usage = {(p.attributes or {})["gen_ai.token.type"]: p for p in points["gen_ai.client.token.usage"]}
    assert {kind: point.sum for kind, point in usage.items()} == {"input": 2400, "output": 600}  # type: ignore[union-attr]
    assert usage["input"].explicit_bounds[-1] == 67108864  # type: ignore[union-attr]


def test_calls_in_several_batches_add_up_like_calls_in_one() -> None:
    one, several = Metered(), Metered()
    records = [call(duration_ms=n * 100.0, usage=Usage(input_tokens=n)) for n in range(2 * HELD_CALLS + 1)]
    one.record(*records)
    for record in records:
        several.record(record)
    assert told(one) == told(several)
    assert told(several.record(*records)) == told(one.record(*records))


def test_what_nobody_collects_is_handed_over_all_the_same() -> None:
    metered = Metered()
    for _ in range(HELD_CALLS):
        metered.record(call())
    assert not metered._subject._held


def test_values_are_handed_over_together() -> None:
    metered = Metered().record(*[call()] * 9)
    with mock.patch.object(metered._subject._duration, "record") as record:
        metered.points()
    ((many, _), _) = record.call_args
    assert many.values == [2.500125] * 9


def test_histograms_are_of_the_kind_that_the_environment_wants(environment: Environment) -> None:
    environment.setenv("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram")
    reader = InMemoryMetricReader(preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()})
    points = Metered(reader=reader).record(call(), call()).points()
    (duration,) = points["gen_ai.client.operation.duration"]
    assert isinstance(duration, ExponentialHistogramDataPoint)
    assert (duration.count, duration.sum) == (2, 5.00025)


def test_every_metric_has_its_promised_name_unit_and_description() -> None:
    metered = Metered().record(call())
    data = metered._reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    assert {m.name: (m.unit, m.description) for m in metrics} == {
        name: said for name, said in METRICS.items() if name != "lectr.export.age"
    }


def test_what_became_of_calls_is_told_and_what_is_not_known_is_absent() -> None:
    points = Metered().points()
    told = {
        (name, (p.attributes or {}).get("reason")): p.value  # type: ignore[union-attr]
        for name in EVENTS.keys() & points.keys()
        for p in points[name]
    }
    assert set(told.values()) == {7}
    assert "lectr.export.age" not in points
    assert {reason for name, reason in told if name == "lectr.events.dropped"} == {
        "queue_full",
        "unwritable",
        "not_exported",
        "refused",
        "error",
    }


def test_what_happened_in_the_process_and_what_is_degraded_are_told() -> None:
    points = Metered().points()
    events = {(p.attributes or {})["event"]: p.value for p in points["lectr.process.events"]}  # type: ignore[union-attr]
    assert events == {"batches_failed": 1, "decisions": 4}
    parts = {(p.attributes or {})["part"]: p.value for p in points["lectr.degraded"]}  # type: ignore[union-attr]
    assert parts == {"settings": 1, "prices": 0}


def test_how_far_a_limit_is_used_is_told_with_whose_it_is() -> None:
    (used,) = Metered().points()["lectr.limit.used"]
    assert (used.value, used.attributes) == (  # type: ignore[union-attr]
        0.25,
        {"lectr.org": "acme", "limit": "daily USD", "for": "feature 'search'"},
    )


def test_models_that_are_not_asked_first_are_told_as_many_as_fit_and_without_keys() -> None:
    told = Metered().points()["lectr.breaker.state"]
    assert len(told) == BREAKER_LIMIT
    assert (told[0].value, told[0].attributes) == (  # type: ignore[union-attr]
        1,
        {
            "gen_ai.provider.name": "gcp.gemini",
            "gen_ai.request.model": "0lc_key_…",
            "server.address": "127.0.0.1",
        },
    )


def test_a_call_that_asks_no_model_is_counted_and_not_timed() -> None:
    points = Metered().record(models_list()).points()
    (asked,) = points["lectr.llm.requests"]
    assert asked.attributes == {
        "gen_ai.provider.name": "openai",
        "lectr.org": "acme",
        "lectr.feature": "search",
        "lectr.task": "summarisation",
    }
    assert not {"gen_ai.client.operation.duration", "lectr.llm.cost", "lectr.llm.tokens"} & points.keys()


def test_whoever_has_no_key_adds_no_value_to_any_label() -> None:
    points = Metered().record(*(turned_away(feature=f"f{n}", model_sent=f"m{n}") for n in range(200))).points()
    (asked,) = points["lectr.llm.requests"]
    assert (asked.value, asked.attributes) == (200, {"lectr.feature": "untagged", "error.type": "invalid_lectr_key"})  # type: ignore[union-attr]


def test_only_so_many_features_are_told_apart() -> None:
    metered = Metered().record(call(feature=None), *(call(feature=f"f{n}") for n in range(150)))
    assert metered.labels("lectr.llm.requests", "lectr.feature") == {
        "untagged",
        "__other__",
        *(f"f{n}" for n in range(100)),
    }
    assert sum(int(p.value) for p in metered.points()["lectr.llm.requests"]) == 151  # type: ignore[union-attr, misc]


def test_a_model_is_named_once_it_answered_or_when_the_price_table_knows_it() -> None:
    failed = {"error_category": "not_found", "error_source": "provider", "status": 404, "model_answered": None}
    metered = Metered(is_known=lambda provider, model: (provider, model) == ("openai", "gpt-5"))
    metered.record(*(call(model_sent=name, **failed) for name in ("gpt-5", "junk-1", "junk-2", "ours")))
    assert metered.labels("lectr.llm.requests", "gen_ai.request.model") == {"gpt-5", "other"}
    metered.record(call(model_sent="ours"), call(model_sent="ours", **failed))
    assert sorted(
        ((p.attributes or {}).get("error.type", ""), p.value)  # type: ignore[union-attr]
        for p in metered.points()["lectr.llm.requests"]
        if (p.attributes or {})["gen_ai.request.model"] == "ours"
    ) == [("", 1), ("404", 1)]


def test_only_so_many_models_are_told_apart() -> None:
    metered = Metered().record(*(call(model_sent=f"m{n}", model_answered=None) for n in range(600)))
    assert len(metered.labels("lectr.llm.requests", "gen_ai.request.model")) == MODEL_LIMIT + 1


def test_a_task_that_is_none_of_the_known_ones_is_other() -> None:
    metered = Metered().record(call(task="juggling", task_known=None), call(task=None, task_known=None))
    assert metered.labels("lectr.llm.requests", "lectr.task") == {"other", None}


def test_a_label_holds_no_key_that_a_client_put_there() -> None:
    secret = "sk-proj-0123456789abcdef0123"
    points = Metered().record(call(feature=secret, model_sent=secret, model_answered=secret)).points()
    assert "0123456789" not in repr([p.attributes for found in points.values() for p in found])


def test_an_unknown_cost_adds_nothing() -> None:
    unpriced = call(cost=Cost("unavailable", "no price for this model"), usage=Usage(input_tokens=5))
    points = Metered().record(unpriced).points()
    assert "lectr.llm.cost" not in points
    assert {(p.attributes or {})["gen_ai.token.type"] for p in points["lectr.llm.tokens"]} == {"input"}
