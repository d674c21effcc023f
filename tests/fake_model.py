"""A small well-behaved server that speaks the OpenAI protocol, and remembers how often it was asked for each title."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "fake-1"


class FakeModel:
    """What was asked, and how it is answered."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[str], str | None] = sensible_answer
        self.before: Callable[[str], None] = lambda title: None
        self.url = ""
        self.lock = threading.Lock()


def title_of(text: str) -> str:
    """The title that a prompt asks about: its last; of a history (of a shop) its newest."""
    return [line for line in text.splitlines() if line.startswith(("Title:", "Bought:"))][-1].partition(":")[2].strip()


def sensible_answer(text: str) -> str:
    """The keywords of the nearest example, and a sentence of the title's own words."""
    lines = text.splitlines()
    keywords = [line for line in lines if line.startswith("Keywords:") and line.removeprefix("Keywords:").strip()]
    nearest = keywords[-1].removeprefix("Keywords:").strip() if keywords else "thing"
    words = " ".join(word for word in title_of(text).lower().split())
    return f" {nearest}\nDescription: A handy {words} for everyday use at home and at work."


@contextmanager
def fake_model() -> Iterator[FakeModel]:
    """Serve on 127.0.0.1 until the block ends."""
    model = FakeModel()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def reply(self, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            self.reply({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "us"}]})

        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            text = "\n".join(message["content"] for message in body["messages"])
            title = title_of(text)
            model.before(title)
            with model.lock:
                model.asked[title] += 1
                model.bodies.append(body)
                model.headers.append(dict(self.headers))
            answer = model.answer(text)
            self.reply(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": MODEL,
                    "choices": [
                        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
                    ],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
                }
            )

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256  # the library's 5 lets connections wait for seconds where many come at once

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
