"""What is said of limits that are used up: to the client of a call that does not fit, and to who watches over them."""

from collections.abc import Mapping
from datetime import UTC, datetime

from lectr_extproc.core.limits import Exceeded, Kind, Limit, Warned
from lectr_extproc.core.pricing import PICO, usd
from lectr_extproc.core.refusal import Refusal

RETRIED_S = 60
"Official SDKs wait no longer than this for a Retry-After, and then try before it anyway: they are told not to."

CODES: Mapping[Kind, str] = {
    "daily": "daily_spend_limit_exceeded",
    "monthly": "monthly_spend_limit_exceeded",
    "rolling": "spend_limit_exceeded",
    "requests": "rate_limit_exceeded",
    "tokens": "token_limit_exceeded",
    "streams": "concurrent_streams_exceeded",
}


def refusal(exceeded: Exceeded, now_ns: int) -> Refusal:
    """As a 429 that says it in words and in headers."""
    (limit, amount, _), used, resets_s, held = exceeded
    wait_s = max(1, resets_s - now_ns // 10**9)
    headers = [
        ("retry-after", str(wait_s)),
        ("x-ratelimit-limit", shown(limit, limit.most)),
        ("x-ratelimit-remaining", shown(limit, max(0, limit.most - used))),
        ("x-ratelimit-reset", str(resets_s)),
    ]
    if wait_s > RETRIED_S:
        headers.append(("x-should-retry", "false"))
    return Refusal(
        429, CODES[limit.kind], "rate_limit_error", _message(limit, amount, used - held, held, resets_s), tuple(headers)
    )


def _message(limit: Limit, amount: int, used: int, held: int, resets_s: int) -> str:
    most, of = shown(limit, limit.most), limit.of
    again = f"It fits again at {moment(resets_s)}."
    if limit.unit == "usd":
        word = {"daily": "daily spend", "monthly": "monthly spend"}.get(limit.kind, f"{limit.window_s} s spend")
        spent = f"{shown(limit, used)} of {most} USD are spent"
        if held:
            spent += f" and {shown(limit, held)} held for calls that are not over"
        costs = f"this call may cost {shown(limit, amount)}"
        if amount > limit.most:
            again = "It never fits: ask for a shorter answer (max_tokens), or for a cheaper model."
        return f"The {word} limit of {of} is reached: {spent}, and {costs}. {again}"
    if limit.unit == "streams":
        return f"{used} of the {most} streams that {of} may have at a time are open. Try again when one has ended."
    wants = f", and this call may take {amount}" if limit.unit == "tokens" else ""
    return f"{of[0].upper()}{of[1:]} has used {used} of {most} {limit.unit} per minute{wants}. {again}"


def told(warned: Warned, at_s: int) -> dict[str, object]:
    """A threshold that was reached, for programs: money as text, because a float would round it."""
    limit = warned.limit
    scope = {name: value for name in ("key", "feature", "model") if (value := getattr(limit, name)) is not None}
    return {
        "event": "limit.exhausted" if warned.per_cent >= 100 else "limit.threshold",
        "org": limit.org,
        "limit": {"kind": limit.kind, "window_s": limit.window_s or None, "for": scope or None},
        "threshold": warned.per_cent / 100,
        "used_usd": shown(limit, warned.used),
        "held_usd": shown(limit, warned.held),
        "limit_usd": shown(limit, limit.most),
        "resets_at": warned.resets_s and moment(warned.resets_s),
        "at": moment(at_s),
    }


def moment(at_s: int) -> str:
    """A moment as people and programs read it."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def shown(limit: Limit, amount: int) -> str:
    """An amount of what is limited, as people read it; of money up to a millionth of a USD."""
    if limit.unit != "usd":
        return str(amount)
    return f"{usd(-(-amount * 10**6 // PICO) * (PICO // 10**6)):.6f}".rstrip("0").rstrip(".")
