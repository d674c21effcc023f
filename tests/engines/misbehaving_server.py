"""A small chat server on 127.0.0.1 that misbehaves as the prompt says: ``mode=NAME`` in the user's message."""

import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JSON = "application/json"


def completion(content: Any, **more: Any) -> dict[str, Any]:
    """Return a right body of a chat completion: 11 tokens read, 7 written."""
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "small",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
        **more,
    }


class MisbehavingServer:
    """Answers ``Keywords: echo ROW`` to a message with ``row=ROW``, unless ``mode=`` says otherwise.

    Attributes:
        tries: requests by row.
        bodies: what was asked, in the order of arrival.
        headers: of each request.
        most_at_once: requests that were under way at the same time.
        models: what GET /models lists; None: there is no such route; bytes: sent as they are.
        need_key: the key without which every answer is 401.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.tries: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self.models: list[str] | bytes | None = ["small"]
        self.need_key = ""
        self.stopping = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "MisbehavingServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Stay silent."""

            def do_GET(self) -> None:
                owner.headers.append(dict(self.headers))
                if owner.need_key and self.headers["Authorization"] != f"Bearer {owner.need_key}":
                    send(self, 401, {"error": {"message": "no"}})
                elif owner.models is None or not self.path.endswith("/models"):
                    send(self, 404, {"detail": "Not Found"})
                elif isinstance(owner.models, bytes):
                    send(self, 200, owner.models)
                else:
                    send(self, 200, {"object": "list", "data": [{"id": name} for name in owner.models]})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = asked["messages"][-1]["content"]
                mode = (re.findall(r"mode=(\w+)", text) or ["ok"])[0]
                row = (re.findall(r"row=(\w+)", text) or ["0"])[0]
                with owner._lock:
                    owner.tries[row] += 1
                    owner.bodies.append(asked)
                    owner.headers.append(dict(self.headers))
                    owner._at_once += 1
                    owner.most_at_once = max(owner.most_at_once, owner._at_once)
                try:
                    if owner.need_key and self.headers["Authorization"] != f"Bearer {owner.need_key}":
                        mode = "unauthorised"
                    MODES[mode](Request(self, owner, row, owner.tries[row], text))
                finally:
                    with owner._lock:
                        owner._at_once -= 1

        return Handler


class Request:
    """One request: its row, how often the row was asked, and how to answer."""

    def __init__(self, http: BaseHTTPRequestHandler, owner: MisbehavingServer, row: str, attempt: int, text: str):
        self.http, self.owner, self.row, self.attempt, self.text = http, owner, row, attempt, text

    def ok(self) -> None:
        self.say(f"Keywords: echo {self.row}")

    def say(self, content: Any, **more: Any) -> None:
        self.send(200, completion(content, **more))

    def send(self, status: int, body: Any, **headers: str) -> None:
        send(self.http, status, body, **headers)

    def wait(self, seconds: float) -> None:
        self.owner.stopping.wait(seconds)


def send(http: BaseHTTPRequestHandler, status: int, body: Any, **headers: str) -> None:
    """Send a body, as JSON unless it is bytes; ``Content_Length`` may lie."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": JSON, "Content-Length": str(len(payload))}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    http.send_response(status)
    for name, value in sent.items():
        http.send_header(name, value)
    http.end_headers()
    http.wfile.write(payload)


def half(request: Request) -> None:
    body = json.dumps(completion("Keywords: never whole")).encode()
    request.send(200, body[: len(body) // 2], Content_Length=str(len(body)))
    request.http.close_connection = True


def half_then_ok(request: Request) -> None:
    half(request) if request.attempt == 1 else request.ok()


def drip(request: Request) -> None:
    """Send a byte now and then: no single read is late."""
    request.send(200, b"{", Content_Length="1000")
    until = time.monotonic() + 10
    while time.monotonic() < until and not request.owner.stopping.is_set():
        request.http.wfile.write(b" ")
        request.http.wfile.flush()
        request.wait(0.05)


def later_the_earlier(request: Request) -> None:
    """The first row is answered last."""
    request.wait(0.05 * (8 - int(request.row)))
    request.ok()


def refuse(status: int, code: str = "", tell: bool = False) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        message = f"about {request.text} {request.http.headers['Authorization']}" if tell else "no"
        request.send(status, {"error": {"message": message, "code": code or None}})

    return answer


def once(status: int, **headers: str) -> Callable[[Request], None]:
    def answer(request: Request) -> None:
        request.send(status, {"error": {"message": "busy"}}, **headers) if request.attempt == 1 else request.ok()

    return answer


def raw(body: bytes, **headers: str) -> Callable[[Request], None]:
    return lambda request: request.send(200, body, **headers)


def say(content: Any, **more: Any) -> Callable[[Request], None]:
    return lambda request: request.say(content, **more)


FENCED = '```json\n{"keywords": ["red", "blue"], "description": "A thing."}\n```'
MODES: dict[str, Callable[[Request], None]] = {
    "ok": Request.ok,
    "busy_then_ok": once(429, Retry_After="1"),
    "broken_then_ok": once(500),
    "busy": refuse(429),
    "broken": refuse(500, tell=True),
    "bad_request": refuse(400, tell=True),
    "hang": lambda request: request.wait(10),
    "drip": drip,
    "half": half,
    "half_then_ok": half_then_ok,
    "empty": raw(b""),
    "not_utf8": raw(json.dumps(completion("XX")).encode().replace(b"XX", b"\xff\xfe\xc3(")),
    "lone_surrogate": raw(json.dumps(completion("XX")).encode().replace(b"XX", b"\\ud800")),
    "deep": raw(b"[" * 200_000),
    "not_json": raw(b"<html><body>Bad gateway</body></html>", Content_Type="text/html"),
    "wrong_type": lambda request: request.send(200, completion("Keywords: told as text"), Content_Type="text/plain"),
    "other_json": raw(b'{"hello": "world"}'),
    "a_list": raw(b"[1, 2]"),
    "no_choices": say("", choices=[]),
    "two_choices": say("", choices=completion("Keywords: one")["choices"] * 2),
    "null_content": say(None),
    "number_content": say(5),
    "blank": say(" \n "),
    "filtered": say("", choices=[{"finish_reason": "content_filter", "message": {"content": "Keywords: a"}}]),
    "fenced": say(FENCED),
    "no_usage": say("Keywords: twelve ch", usage=None),
    "odd_usage": say("Keywords: twelve ch", usage={"prompt_tokens": -3, "completion_tokens": "many"}),
    "long": say("Keywords: " + "x" * 100_000),
    "too_large": raw(b" " * (9 * 2**20)),
    "later_the_earlier": later_the_earlier,
    "slow": lambda request: (request.wait(0.1), request.ok())[1],
    "unauthorised": refuse(401, tell=True),
    "forbidden": refuse(403, tell=True),
    "unknown_model": refuse(404, "model_not_found", tell=True),
    "no_route": refuse(404, tell=True),
    "no_money": refuse(429, "insufficient_quota", tell=True),
    "elsewhere": lambda request: request.send(307, {}, Location="http://127.0.0.1:9/v1/chat/completions"),
}
