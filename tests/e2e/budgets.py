"""A small rate limit service: it keeps budgets, and remembers what it was asked and what it answered."""

import queue
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
OK, OVER_LIMIT = 1, 2
ARRIVES_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One descriptor of one request."""

    budget: str
    of: tuple[str, ...]
    "The values of its other entries."
    hits: int | None
    allowed: bool


class Budgets:
    """The service, listening. A budget is spent when more hits than it has were added for the same descriptor."""

    def __init__(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(1))
        handler: grpc.RpcMethodHandler[Any, int] = grpc.unary_unary_rpc_method_handler(
            self._answer, _Request.FromString, lambda code: _Response(overall_code=code).SerializeToString()
        )
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, {"ShouldRateLimit": handler})]
        )
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self.reset()

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(None).wait()

    def reset(self, **limits: int) -> None:
        """Forget everything; budgets that are not given are without an end."""
        self._limits = limits
        self._spent: dict[tuple[str, tuple[str, ...]], int] = {}
        self._asked: queue.SimpleQueue[Asked] = queue.SimpleQueue()
        self.is_broken = False

    def next(self, count: int) -> list[Asked]:
        """The oldest questions not yet returned by this method; waits for as many."""
        return [self._asked.get(timeout=ARRIVES_WITHIN_S) for _ in range(count)]

    def _answer(self, request: Any, context: grpc.ServicerContext) -> int:
        asked = [self._take(descriptor) for descriptor in request.descriptors]
        for one in asked:
            self._asked.put(one)
        if self.is_broken:
            context.abort(grpc.StatusCode.UNAVAILABLE, "broken")
        return OK if all(one.allowed for one in asked) else OVER_LIMIT

    def _take(self, descriptor: Any) -> Asked:
        budget, *of = (entry.value for entry in descriptor.entries)
        hits = descriptor.hits_addend.value if descriptor.HasField("hits_addend") else None
        key = (budget, tuple(of))
        self._spent[key] = self._spent.get(key, 0) + (1 if hits is None else hits)
        allowed = self._spent[key] <= self._limits.get(budget, self._spent[key])
        return Asked(budget=budget, of=key[1], hits=hits, allowed=allowed)


def _message(name: str, *fields: FieldDescriptorProto) -> DescriptorProto:
    return DescriptorProto(name=name, field=fields)


def _field(name: str, number: int, kind: "FieldDescriptorProto.Type.ValueType") -> FieldDescriptorProto:
    return FieldDescriptorProto(name=name, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)


def _of(name: str, number: int, message: str, *, repeated: bool = False) -> FieldDescriptorProto:
    label = FieldDescriptorProto.LABEL_REPEATED if repeated else FieldDescriptorProto.LABEL_OPTIONAL
    kind = FieldDescriptorProto.TYPE_MESSAGE
    return FieldDescriptorProto(name=name, number=number, type=kind, type_name=f".budgets.{message}", label=label)


# The fields that are used here, with the numbers of Envoy's rls.proto and ratelimit.proto.
_TEXT, _NUMBER = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_UINT64
_pool = DescriptorPool()
_pool.Add(
    FileDescriptorProto(
        name="budgets.proto",
        package="budgets",
        syntax="proto3",
        message_type=[
            _message("Number", _field("value", 1, _NUMBER)),
            _message("Entry", _field("key", 1, _TEXT), _field("value", 2, _TEXT)),
            _message("Descriptor", _of("entries", 1, "Entry", repeated=True), _of("hits_addend", 3, "Number")),
            _message("Request", _of("descriptors", 2, "Descriptor", repeated=True)),
            _message("Response", _field("overall_code", 1, FieldDescriptorProto.TYPE_INT32)),
        ],
    )
)
_Request = GetMessageClass(_pool.FindMessageTypeByName("budgets.Request"))
_Response = GetMessageClass(_pool.FindMessageTypeByName("budgets.Response"))
