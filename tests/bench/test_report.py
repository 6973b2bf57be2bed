"""What the page says of given samples. Its figures are a machine's, so the samples of these tests are made up."""

from collections.abc import Mapping
from typing import Any

from tests.bench import choosing, envoy_parts, report
from tests.bench.__main__ import MORE
from tests.bench.arms import ARMS
from tests.bench.measures import CHUNKS, CONCURRENCIES, SIZES

CPU = {"Python": 100.0, "Envoy": 50.0}


def sample(part: str, arm: str, case: object, round_: int = 0, **figures: Any) -> dict[str, Any]:
    like = {"calls": 10, "per_s": 100.0, "p50": 1.0, "p90": 2.0, "p99": 3.0, "ours": 0.1, "cpu": CPU}
    chunks = {"first_chunk": 1.0, "chunk_p50": 0.1, "chunk_p99": 0.2} if part == "streams" else {}
    memory = {"resident_mib": dict.fromkeys(CPU, 70.0)}
    return {"part": part, "arm": arm, "case": str(case), "round": round_, **like, **chunks, **memory, **figures}


def results(*samples: dict[str, Any], **more: Any) -> dict[str, Any]:
    machine = {"at": "2026-11-21", "machine": "2 cores", "rounds": 3, "took_s": 1.0, "load_before": 0, "load_after": 0}
    return {**machine, "samples": samples, **more}


def whole() -> dict[str, Any]:
    """Something of all that a whole run measures."""
    told = {"version": "1", "ready_s": 0.5, "resident_mib": dict.fromkeys(CPU, 70.0)}
    return results(
        *(sample("calls", arm, case) for arm in ARMS if arm != "passing" for case in CONCURRENCIES),
        *(sample("streams", arm, case) for arm in (*ARMS, "native, strip") for case in CHUNKS),
        *(sample("sizes", arm, case) for arm in ARMS for case in SIZES),
        *(sample("growth", arm, 16) for arm in MORE),
        *(sample("choosing", name, case) for name in choosing.CASES for case in (1, 16)),
        *(sample("envoy", arm, case) for arm in envoy_parts.PARTS for case in (16, "10 MiB")),
        arms=[{"name": arm, **told} for arm in ARMS],
        more=[{"name": arm, **told} for arm in MORE],
        serving_s=[0.5],
        crowds=[{"size": size, "before_kib": 71680, "grown_kib": 1024, "streams": 0} for size in (1_000, 10_000)],
        micro=[("decide", "decide: a pinned model", "15.0 µs")],
    )


def rows(page: str) -> Mapping[str, list[str]]:
    """By what stands in the first cell; the first table that has it."""
    found: dict[str, list[str]] = {}
    for line in page.splitlines():
        if line.startswith("| "):
            first, *others = (cell.strip() for cell in line.strip("|").split("|"))
            found.setdefault(first, others)
    return found


def test_a_whole_run_has_everything_that_was_promised_to_be_measured() -> None:
    page = "\n".join(report.sections(whole()))
    assert [line[4:] for line in page.splitlines() if line.startswith("### ")] == [
        "Held against what was promised",
        "Added latency of a plain call, p50 / p90 / p99, ms",
        "Throughput, CPU and memory",
        "Streams: added latency",
        "Larger requests, one at a time: whole p50, ms",
        "What choosing and limits cost",
        "What grows with what is in lectr.yaml",
        "What Envoy's share is made of",
        "Single steps",
    ]
    assert {"10,000 orgs", "1,000 rules", "300 providers", "10,000 models"} <= rows(page).keys()
    assert {report.ENVOYS[arm] for arm in envoy_parts.PARTS} <= rows(page).keys()
    assert choosing.CASES.keys() <= rows(page).keys()


def test_what_an_empty_ext_proc_takes_stands_beside_what_was_promised() -> None:
    plain = (("direct", 0.1, 1.0), ("empty", 0.7, 100.0), ("native", 1.3, 250.0), ("portkey", 1.0, 50.0))
    made = results(
        *(sample("calls", arm, 1, p50=p50) for arm, p50, _ in plain),
        *(sample("calls", arm, 64, cpu={"Python": cpu}) for arm, _, cpu in plain),
        *(
            sample("streams", arm, 1000, chunk_p50=p50)
            for arm, p50 in (("envoy", 0.1), ("passing", 0.3), ("portable", 0.4))
        ),
    )
    told = {what: others for what, *others in report.promises(made, report.Seen(made["samples"]))}
    assert told["Python's CPU a call ÷ empty ext_proc's, at 64"] == ["≤ 1.5", "2.50", "1.00"]
    assert told["added p50 latency at 1, native, over no gateway"] == ["≤ 0.8 ms", "1.20 ms", "0.60 ms"]
    assert told["throughput a core ÷ Portkey gateway's"] == ["≥ 1.5", "0.20", "0.50"]
    assert told["added latency of an SSE chunk over Envoy alone, stream"] == ["≤ 0.25 ms", "0.300 ms", "0.200 ms"]


def test_what_a_choice_costs_is_told_within_each_round() -> None:
    made = [
        sample("choosing", name, case, round_, p50=p50 + round_, cpu={"Python": cpu * (1 + round_), "Envoy": 10.0})
        for name, p50, cpu in ((choosing.PINNED, 1.0, 100.0), ("one failover", 3.5, 300.0))
        for case in (1, 16)
        for round_ in (0, 1, 2)
    ]
    page = rows("\n".join(report.sections(results(*made))))
    assert page["one failover"] == ["600 (300 – 900); 3.00 ×", "10; 1.00 ×", "2.50"]


def test_an_arm_that_cannot_be_had_is_told_with_its_reason() -> None:
    made = whole() | {"missing": {"litellm": "no network"}}
    made["samples"] = [one for one in made["samples"] if one["arm"] != "litellm"]
    made["arms"] = [one for one in made["arms"] if one["name"] != "litellm"]
    page = "\n".join(report.sections(made))
    assert rows(page)["throughput a core ÷ LiteLLM proxy's"][1] == "missing: no network"
    assert "| LiteLLM proxy | missing: no network |" in page


def test_each_part_of_envoys_share_is_one_that_lectr_renders() -> None:
    names = [one["name"] for one in envoy_parts.rendered()["http_filters"]]
    mine = ["lectr_json_to_metadata", "lectr_fallback", "lectr", "lectr_ai_protocol_manager"]
    assert names == [*mine, "envoy.filters.http.router"]
    assert envoy_parts.http_filter("lectr_json_to_metadata")["typed_config"]["request_rules"]
    assert [one["name"] for one in envoy_parts.rendered()["access_log"]] == ["lectr"]
