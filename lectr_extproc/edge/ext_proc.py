"""The ext_proc servicer: receive, convert, decide, convert, send, return.

Most calls are one message and one reply, after which the gRPC stream is over and nothing of the call stays here.
"""

import logging
import secrets
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio

from lectr_extproc.core.attempt import enclose, winner
from lectr_extproc.core.decision import decide
from lectr_extproc.core.facts import Facts, read_facts, with_body
from lectr_extproc.core.memo import Memo, Seen, is_repeatable
from lectr_extproc.core.outcome import AskForBody, Decision, Route, to_metadata
from lectr_extproc.core.snapshot import Snapshot
from lectr_extproc.core.upstream import ATTEMPT_SUFFIX
from lectr_extproc.core.watch import Watch, watch_answer
from lectr_extproc.edge import attempt, wire
from lectr_extproc.edge.limits import Limits
from lectr_extproc.edge.live import Live
from lectr_extproc.pb import ext_proc_pb2 as ext

log = logging.getLogger("lectr.ext_proc")


class ExtProc:
    """Decides each call Envoy asks about."""

    def __init__(self, live: Live, limits: Limits | None = None) -> None:
        self._live = live
        self._memo: tuple[Snapshot | None, Memo] = None, Memo(b"")
        self._limits = limits

    async def process(self, _: Any, context: Any) -> bytes:
        """Answer every message exactly once; the last reply that matters is returned, and ends the stream."""
        counts, began_s, what = self._live.counts, int(time.time()), "decision"
        try:
            reply, route, snapshot = await self._decide(context, began_s)
            if route is None:
                return reply
            what = "reading"
            await context.write(reply)
            del reply  # there may be a body in it
            return await _read(route, snapshot, context, counts, began_s)
        except wire.Unreadable:
            counts["messages_unreadable"] += 1
            log.error("a message could not be read")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no message of ext_proc")
        except grpc.aio.BaseError:  # Envoy has left in the middle of a reply, or the server has stopped: gRPC's to end
            raise
        except Exception:  # the outermost place of the stream: Envoy's failure policy decides what the client gets
            counts[f"{what}s_failed"] += 1
            log.exception("a %s failed", what)
            await context.abort(grpc.StatusCode.INTERNAL, f"{what} failed")
        return wire.NOTHING

    async def _decide(self, context: Any, began_s: int) -> tuple[bytes, Route | None, Snapshot]:
        """The request's half: the reply that ends it, and its route where the answer is to be read."""
        snapshot, vitals = self._live.snapshot, self._live.vitals
        facts: Facts | None = None
        seen: Seen | None = None
        while (content := await context.read()) is not grpc.aio.EOF:
            message = wire.request_from(content)
            kind = message.WhichOneof("request")
            if kind == "request_headers":
                if message.attributes and wire.is_of_attempt(message):
                    return await attempt.process(self._live, message, context), None, snapshot
                snapshot = self._live.snapshot  # the newest, which is the one that the memo is for
                seen = wire.seen_in(message, content, snapshot.limits)
                call_id, parent = new_call_id(), self._parent(seen.traceparent, context)
                tail = wire.tail(call_id, parent)
                if (known := self._memo_of(snapshot).find(seen, tail)) is not None:
                    reply, route, told = known
                    # A call that limits have a word to say to is decided anew.
                    if told is None or await self._fits(told, route, seen, call_id, began_s):
                        self._live.counts["decisions"] += 1
                        return reply, route if route is not None and route.observe == "stream" else None, snapshot
                headers = wire.headers_from(message.request_headers)
                facts = read_facts(
                    headers,
                    wire.request_metadata_from(message),
                    end_of_stream=message.request_headers.end_of_stream,
                    at_s=began_s,
                    call_id=call_id,
                    sticky=snapshot.sticky_headers,
                    workload=wire.workload_from(message, headers, snapshot.identity) if snapshot.identity else None,
                )
            elif kind == "request_body" and facts is not None:
                facts = with_body(facts, message.request_body.body)
            else:
                if (empty := wire.empty_reply(message)) is not None:
                    await context.write(empty)
                continue
            decision = decide(facts, snapshot, vitals.health)
            if snapshot is not self._live.snapshot and self._has_left(decision):
                # the body was long on its way: what it was to reach has left
                snapshot, seen = self._live.snapshot, None
                decision = decide(facts, snapshot, vitals.health)
            if isinstance(decision, Route) and decision.org.limits is not None and self._limits is not None:
                facts, decision = await self._limits.admit(facts, decision, snapshot, vitals.health)
            if isinstance(decision, AskForBody):
                self._live.counts["bodies_asked_for"] += 1
                await context.write(wire.ASK_FOR_BODY)
                continue
            self._live.counts["decisions"] += 1
            if isinstance(decision, Route) and decision.choice.plan is not None:
                vitals.asked(decision, snapshot.breaking)
            metadata = to_metadata(decision, facts, call_id, parent)
            order = b""
            if isinstance(decision, Route) and decision.tries:
                decision = enclose(decision, facts, headers, snapshot)
                clusters = [each.cluster + ATTEMPT_SUFFIX for each in decision.tries]
                order = wire.order_of(range(len(clusters)), clusters)
            reply = wire.reply_from(decision, metadata, to_body=kind == "request_body") + order
            if seen is not None and is_repeatable(decision, facts):
                self._memo_of(snapshot).keep(seen, tail, reply, decision, facts)
            return reply, decision if isinstance(decision, Route) and decision.observe == "stream" else None, snapshot
        return wire.NOTHING, None, snapshot

    def _has_left(self, decision: Decision) -> bool:
        """Settings that change in the middle of a call are the next call's, unless its address is no more."""
        known = {upstream.cluster for upstream in self._live.snapshot.upstreams}
        return isinstance(decision, Route) and decision.cluster not in known

    async def _fits(self, told: Facts, route: Route | None, seen: Seen, call_id: str, at_s: int) -> bool:
        """Whether a call that is known goes on as it is, as far as its org's limits go."""
        if route is None or self._limits is None:
            return True
        facts = replace(told, content_length=seen.content_length, call_id=call_id, at_s=at_s)
        return await self._limits.fits(facts, route, self._live.snapshot)

    def _memo_of(self, snapshot: Snapshot) -> Memo:
        """What was decided with this snapshot, and with no other: a key that was revoked is not known here."""
        if self._memo[0] is not snapshot:
            self._memo = snapshot, Memo(secrets.token_bytes(32))
        return self._memo[1]

    def _parent(self, traceparent: str | None, context: Any) -> str | None:
        """Envoy's own span when it traces, else the client's, where it is trusted."""
        sent = wire.traceparent_from(context.invocation_metadata())
        return sent or (traceparent if self._live.snapshot.trust_traceparent else None)


def new_call_id() -> str:
    """128 bits in hex, 80 of them random. The others are the time: in the order of time a ledger's index grows at its
    end, and a call costs it half of what it does where each id belongs on another page.

    Drawn here and not taken from the request: the client can choose x-request-id.
    """
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


async def _read(route: Route, snapshot: Snapshot, context: Any, counts: Counter[str], began_s: int) -> bytes:
    """The answer's half, of which nothing but the reader is held: answers take minutes, and come in thousands."""
    watch: Watch | None = None
    while (content := await context.read()) is not grpc.aio.EOF:
        if watch is not None and (chunk := wire.chunk_from(content)):
            body, is_last = chunk
            replies = [wire.pass_chunk(*each) for each in watch.feed(body, is_last=is_last)]
            reply = replies.pop() if replies else wire.WAIT_LONGER
            for each in replies:
                await context.write(each)
            if is_last:
                return reply
            await context.write(reply)
            continue
        message = wire.request_from(content)
        if message.WhichOneof("request") != "response_headers":
            if (empty := wire.empty_reply(message)) is not None:
                await context.write(empty)
            continue
        if route.tries:
            route = winner(route, wire.winner_from(message))
        watch = _watch(message.response_headers, route, snapshot, began_s)
        if watch is None:
            return wire.LEAVE_BODY
        del content, message
        counts["usage_chunks_left_in"] += watch.leaves_chunk_in
        await context.write(wire.WATCH_BODY)
    return wire.NOTHING


def _watch(answer: ext.HttpHeaders, decision: Route, snapshot: Snapshot, began_s: int) -> Watch | None:
    return None if answer.end_of_stream else watch_answer(decision, wire.headers_from(answer), snapshot, began_s)


def handlers(servicer: ExtProc) -> grpc.GenericRpcHandler:
    """Envoy's literal method path; the message classes are our own, compatible on the wire.

    To Envoy it is a stream both ways. gRPC, told that there is one response, sends the one that is returned together
    with the stream's end, which spares a seventh of the CPU that an empty call takes; the ones before it are written.
    """
    return grpc.method_handlers_generic_handler(
        wire.EXT_PROC_SERVICE,
        {
            "Process": grpc.stream_unary_rpc_method_handler(
                servicer.process,
                request_deserializer=None,  # chunks are read without making protobuf's objects
                response_serializer=None,  # wire's replies are bytes
            )
        },
    )
