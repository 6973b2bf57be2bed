"""`lectr doctor`: what is wrong with the Envoy that runs and with the lectr behind it, as people read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from lectr_extproc import status
from lectr_extproc.core.upstream import Upstream
from lectr_extproc.edge.envoy_admin import look_at
from lectr_extproc.gateway.finding import Finding, error, warning
from lectr_extproc.gateway.running import check_running
from lectr_extproc.settings import Settings

_SEE = "docs/doctor.md#lectr-itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was looked at, and what is wrong with it: errors first."""

    envoy: str
    profile: str
    findings: Sequence[Finding]

    @property
    def has_errors(self) -> bool:
        """Whether something must be mended."""
        return any(finding.severity == "error" for finding in self.findings)


def examine(settings: Settings, admin: str | None = None) -> Examined:
    """Ask Envoy and lectr. EnvoyError where no Envoy answers, as there is nothing to judge then."""
    running = look_at(admin or settings.gateway.admin)
    upstreams, of_lectr = _lectr(settings)
    found = [*check_running(running, settings.gateway, upstreams), *of_lectr]
    return Examined(
        envoy=".".join(map(str, running.version)),
        profile=settings.gateway.profile,
        findings=sorted(found, key=lambda finding: finding.severity),
    )


def _lectr(settings: Settings) -> tuple[Sequence[Upstream], list[Finding]]:
    """The addresses that Envoy must have, and what is wrong with lectr. It may know others than these settings do."""
    upstreams = settings.snapshot.upstreams
    try:
        said = status.ask(settings)
    except status.StatusError as problem:
        do = "start it (`lectr serve`), or look with the settings that it runs with (--config)"
        return upstreams, [error(str(problem), "nobody decides on calls, or nobody can see how that goes", do, _SEE)]
    found = []
    if said["degraded"]:
        why = "calls go on; what is kept, counted or exported of them may be incomplete"
        found.append(warning(f"lectr is degraded: {', '.join(said['degraded'])}", why, "lectr status", _SEE))
    if {upstream.cluster for upstream in upstreams} != {*said["clusters"]}:
        why = "Envoy was looked at only for addresses that both have; `lectr run` without an org has its own"
        do = "name the settings that lectr runs with (--config), or see in `lectr status` whether it refused these"
        found.append(warning("lectr sends calls to other addresses than these settings", why, do, _SEE))
        upstreams = tuple(upstream for upstream in upstreams if upstream.cluster in said["clusters"])
    return upstreams, found


def as_json(examined: Examined) -> dict[str, Any]:
    """For programs."""
    return {"envoy": examined.envoy, "profile": examined.profile, "findings": list(map(as_fields, examined.findings))}


def as_fields(finding: Finding) -> dict[str, str]:
    """One finding for programs."""
    return {name: getattr(finding, name) for name in ("severity", "what", "why", "do", "see")}


def as_text(examined: Examined) -> str:
    """For people: each finding with what to do, and how many there are."""
    looked_at = f"Envoy {examined.envoy}, profile {examined.profile}"
    if not examined.findings:
        return f"{looked_at}: nothing is wrong\n"
    errors = sum(finding.severity == "error" for finding in examined.findings)
    counted = f"{looked_at}: {errors} errors, {len(examined.findings) - errors} warnings\n"
    return "".join(f"{told(finding)}\n" for finding in examined.findings) + counted


def told(finding: Finding) -> str:
    """One finding as lines."""
    do = indent(finding.do, " " * 9).removeprefix(" " * 9)
    return f"{finding.severity:<8} {finding.what}\n    why  {finding.why}\n    do   {do}\n    see  {finding.see}\n"
