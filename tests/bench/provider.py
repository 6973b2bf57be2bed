"""`python -m tests.bench.provider`: what every arm calls. It knows no HTTP beyond what it needs to answer at once.

One thread, one epoll, answers made beforehand. Says its port on standard output. A request whose body asks for a stream
gets as many chunks as its `max_tokens`; each says when it left, and two of a paced stream are PACE_S apart. Below
FAILING every request gets 503.
"""

import json
import re
import select
import socket
import time

PACE_S = 0.002
FAILING = "/failing"
MODEL = "gpt-4o"
ANSWERED = "gpt-4o-2024-08-06"
USAGE = {
    "prompt_tokens": 212,
    "completion_tokens": 96,
    "total_tokens": 308,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_COMMON = {"id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG", "created": 1790000000, "model": ANSWERED}
_TEXT = "The quick brown fox jumps over the lazy dog. " * 10
_MESSAGE = {"index": 0, "message": {"role": "assistant", "content": _TEXT}, "finish_reason": "stop"}
_ANSWER = json.dumps({**_COMMON, "object": "chat.completion", "choices": [_MESSAGE], "usage": USAGE}).encode()


def _head(content_type: str, length: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\n{length}\r\n\r\n".encode()


PLAIN = _head("application/json", f"content-length: {len(_ANSWER)}") + _ANSWER
_ERROR = json.dumps({"error": {"message": "Overloaded.", "type": "server_error", "code": None}}).encode()
FAILED = _head("application/json", f"content-length: {len(_ERROR)}", "503 Service Unavailable") + _ERROR
TAKEN = _head("application/x-protobuf", "content-length: 0")
"To what a gateway exports: an empty protobuf message."
_STREAM = _head("text/event-stream; charset=utf-8", "transfer-encoding: chunked")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ASKS_FOR_STREAM = re.compile(rb'"stream": ?true')
_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
_SMALL = 16_384
"A body that asks for a stream is smaller; larger ones are not searched."


def chunk(text: str, finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "logprobs": None, "finish_reason": finish_reason}
    return event({**_COMMON, "object": "chat.completion.chunk", "choices": [choice]})


def event(document: object) -> bytes:
    return _framed(f"data: {json.dumps(document)}\n\n".encode())


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_MARK = "t0000000000000000t"
_BEFORE, _AFTER = chunk(_MARK).split(_MARK.encode())
_LAST = chunk("", "stop")
_USAGE = event({**_COMMON, "object": "chat.completion.chunk", "choices": [], "usage": USAGE})
_DONE = _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def stream(client: socket.socket, body: bytes) -> None:
    """One thread serves all: while a paced stream runs nobody else is answered."""
    tokens = int(match[1]) if (match := _TOKENS.search(body)) else 1
    is_paced = b'"paced"' in body
    client.sendall(_STREAM)
    for number in range(tokens):
        if is_paced and number:
            time.sleep(PACE_S)
        client.sendall(b"%bt%016dt%b" % (_BEFORE, time.monotonic_ns() // 1000, _AFTER))
    client.sendall(_LAST + (_USAGE if b'"include_usage"' in body else b"") + _DONE)


class Client:
    """One connection, and what has come of its next request."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._head = b""
        self._missing = 0
        self._body = b""

    def read(self) -> bool:
        """Take what is there, and answer if that was all. Whether the connection is still open."""
        data = self.connection.recv(1 << 18)
        if not data:
            return False
        if self._missing:
            self._missing -= len(data)
            if len(self._body) < _SMALL:
                self._body += data
        else:
            self._head += data
            head, ends, body = self._head.partition(b"\r\n\r\n")
            if not ends:
                return True
            length = _LENGTH.search(head)
            self._body, self._missing = body, (int(length[1]) if length else 0) - len(body)
        if self._missing:
            return True
        if self._head.startswith((b"POST /v1/traces", b"POST /v1/metrics")):
            self.connection.sendall(TAKEN)
        elif self._head.startswith(f"POST {FAILING}".encode()):
            self.connection.sendall(FAILED)
        elif len(self._body) < _SMALL and _ASKS_FOR_STREAM.search(self._body):
            stream(self.connection, self._body)
        else:
            self.connection.sendall(PLAIN)
        self._head = b""
        return True


def main() -> None:
    """Serve until killed."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener, select.epoll() as ready:
        print(listener.getsockname()[1], flush=True)
        clients: dict[int, Client] = {}
        ready.register(listener, select.EPOLLIN)
        while True:
            for number, _ in ready.poll():
                if number == listener.fileno():
                    connection = listener.accept()[0]
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    clients[connection.fileno()] = Client(connection)
                    ready.register(connection, select.EPOLLIN)
                    continue
                try:
                    is_open = clients[number].read()
                except ConnectionError:
                    is_open = False
                if not is_open:
                    ready.unregister(number)
                    clients.pop(number).connection.close()


if __name__ == "__main__":
    main()
