"""The engine ``openai`` against a server that misbehaves."""

import logging
import pickle
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core.config_text import LanguageModelConfig
from lt_spark.core.errors import ConfigError
from lt_spark.engines.base import Answer, Decoding, Prompt
from lt_spark.engines.openai_engine import OpenAIEngine, check, is_remote

pytest.importorskip("openai")

from tests.engines.misbehaving_server import MisbehavingServer  # noqa: E402

KEY = "sk-planted-4711"
SECRET = "Zanzibar-lamp"  # in every prompt, and in the messages of the server's errors
DECODING = Decoding(max_new_tokens=32, max_lines=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.delenv("LT_SPARK_LLM_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


def config_of(server: MisbehavingServer, **changes: Any) -> LanguageModelConfig:
    section = {"engine": "openai", "base_url": server.url, "model": "small", "timeout_s": 5, "max_retries": 2}
    return LanguageModelConfig.model_validate({**section, **changes})


def prompt(mode: str, row: int | str = 0) -> Prompt:
    return Prompt("Describe items.\n", f"Title: {SECRET} mode={mode} row={row}\n", "Keywords:")


def ask(server: MisbehavingServer, mode: str, **changes: Any) -> Answer:
    """Ask one bad prompt between two good ones, which must not notice."""
    prompts = [prompt("ok", "before"), prompt(mode), prompt("ok", "after")]
    before, answer, after = OpenAIEngine(config_of(server, **changes)).generate(prompts, DECODING)
    assert [before.text, after.text] == ["echo before", "echo after"]
    assert [before.error, after.error] == ["", ""]
    assert SECRET not in answer.error
    return answer


def test_answers_have_text_and_token_counts(server: MisbehavingServer) -> None:
    (answer,) = OpenAIEngine(config_of(server)).generate([prompt("ok", 3)], DECODING)
    assert (answer.text, answer.n_prompt_tokens, answer.n_output_tokens, answer.error) == ("echo 3", 11, 7, "")
    assert answer.seconds > 0


def test_no_prompts_no_request(server: MisbehavingServer) -> None:
    assert OpenAIEngine(config_of(server)).generate([], DECODING) == []
    assert server.bodies == []


def test_the_request_says_how_to_decode(server: MisbehavingServer) -> None:
    decoding = Decoding(max_new_tokens=20, temperature=0.5, seed=9)
    OpenAIEngine(config_of(server)).generate([prompt("ok")], decoding)
    (body,) = server.bodies
    assert body["model"] == "small"
    assert (body["max_tokens"], body["temperature"], body["seed"]) == (20, 0.5, 9)
    assert "presence_penalty" not in body, "not every server knows it"
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "Keywords:" in body["messages"][1]["content"]


def test_a_penalty_is_the_servers_and_what_it_cannot_do_is_left_out(server: MisbehavingServer) -> None:
    decoding = Decoding(20, presence_penalty=1.5, calibration=0.5, others=(prompt("hang"),))
    OpenAIEngine(config_of(server)).generate([prompt("ok")], decoding)
    (body,) = server.bodies
    assert body["presence_penalty"] == 1.5


def test_nothing_about_this_machine_is_told(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-server")
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-another-server")
    OpenAIEngine(config_of(server)).generate([prompt("ok")], DECODING)
    (headers,) = server.headers
    sent = {name.lower(): value for name, value in headers.items()}
    assert set(sent) == {
        *("host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"),
        "authorization",
    }
    assert sent["authorization"] == "Bearer none"


def test_answers_that_arrive_in_another_order_stay_with_their_rows(server: MisbehavingServer) -> None:
    prompts = [prompt("later_the_earlier", row) for row in range(8)]
    answers = OpenAIEngine(config_of(server)).generate(prompts, DECODING)
    assert [answer.text for answer in answers] == [f"echo {row}" for row in range(8)]


def test_no_more_requests_at_once_than_configured(server: MisbehavingServer) -> None:
    OpenAIEngine(config_of(server, concurrency=3)).generate([prompt("slow", row) for row in range(9)], DECODING)
    assert server.most_at_once == 3


def test_retry_after_is_waited_for(server: MisbehavingServer) -> None:
    begin = time.monotonic()
    assert ask(server, "busy_then_ok").text == "echo 0"
    assert server.tries["0"] == 2
    assert time.monotonic() - begin >= 1


@pytest.mark.parametrize("mode", ["broken_then_ok", "half_then_ok"])
def test_what_passes_is_tried_again(server: MisbehavingServer, mode: str) -> None:
    assert ask(server, mode).text == "echo 0"
    assert server.tries["0"] == 2


@pytest.mark.parametrize(
    ("mode", "tries", "error"),
    [
        ("broken", 3, "HTTP 500"),
        ("busy", 3, "HTTP 429"),
        ("bad_request", 1, "HTTP 400"),
        ("half", 3, "no connection, or it broke"),
        ("empty", 1, "the response is empty"),
        ("not_utf8", 1, "the response is not valid UTF-8"),
        ("lone_surrogate", 1, "the response is not JSON"),
        ("deep", 1, "the response is not JSON"),
        ("not_json", 1, "the response is not JSON"),
        ("other_json", 1, "the response is not a chat completion"),
        ("a_list", 1, "the response is not a chat completion"),
        ("number_content", 1, "the response is not a chat completion"),
        ("no_choices", 1, "0 choices came, expected 1"),
        ("two_choices", 1, "2 choices came, expected 1"),
        ("null_content", 1, "the message has no text"),
        ("blank", 1, "the answer is empty"),
        ("filtered", 1, "the server's content filter refused"),
        ("long", 1, "the answer is far longer than language_model.max_new_tokens"),
        ("too_large", 1, "the response is larger than 8 MiB"),
    ],
)
def test_a_fault_is_a_row(server: MisbehavingServer, mode: str, tries: int, error: str) -> None:
    answer = ask(server, mode)
    assert (answer.text, answer.error) == ("", error)
    assert server.tries["0"] == tries


@pytest.mark.parametrize(("mode", "tries"), [("hang", 2), ("drip", 1)])
def test_a_server_that_hangs_is_left(server: MisbehavingServer, mode: str, tries: int) -> None:
    begin = time.monotonic()
    assert ask(server, mode, timeout_s=0.5, max_retries=1).error == "no answer in time"
    assert server.tries["0"] == tries
    assert time.monotonic() - begin < 4


def test_tokens_of_a_refused_answer_are_counted(server: MisbehavingServer) -> None:
    assert ask(server, "null_content").n_prompt_tokens == 11


@pytest.mark.parametrize("mode", ["no_usage", "odd_usage"])
def test_tokens_are_estimated_where_the_server_is_silent(
    server: MisbehavingServer, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(server, mode)
    assert answer.n_prompt_tokens == len(prompt(mode).text) // 4
    assert answer.n_output_tokens == len("Keywords: twelve ch") // 4
    assert caplog.text.count("estimated") == 1


def test_a_fenced_object_is_read(server: MisbehavingServer) -> None:
    assert ask(server, "fenced").text == "red, blue\nDescription: A thing."


def test_the_content_type_does_not_matter(server: MisbehavingServer) -> None:
    assert ask(server, "wrong_type").text == "told as text"


def test_a_prompt_that_is_too_long_or_no_text_is_not_sent(server: MisbehavingServer) -> None:
    too_long = Prompt("", "row=long " + "x" * (8 * 64), "")
    no_text = Prompt("", "row=odd \ud800", "")
    answers = OpenAIEngine(config_of(server, max_prompt_tokens=64)).generate(
        [too_long, no_text, Prompt("", "row=2")], DECODING
    )
    assert answers[0].error == "the prompt is longer than language_model.max_prompt_tokens"
    assert answers[1].error == "could not be asked: UnicodeEncodeError"
    assert answers[2].text == "Keywords: echo 2"
    assert set(server.tries) == {"2"}


def test_no_server_is_a_row_each(server: MisbehavingServer) -> None:
    config = config_of(server, base_url=f"http://127.0.0.1:{free_port()}/v1")
    answers = OpenAIEngine(config).generate([prompt("ok", row) for row in range(3)], DECODING)
    assert [answer.error for answer in answers] == ["connection refused"] * 3


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("unauthorised", "HTTP 401.*LT_SPARK_LLM_API_KEY.*found here: no such variable"),
        ("forbidden", "HTTP 403.*LT_SPARK_LLM_API_KEY"),
        ("unknown_model", "HTTP 404.*language_model.model to a name that it serves"),
        ("no_route", "HTTP 404.*'small'.*/v1"),
        ("no_money", "HTTP 429.*pay"),
        ("elsewhere", "HTTP 307.*prompts do not follow"),
    ],
)
def test_what_every_row_would_meet_stops_at_once(server: MisbehavingServer, mode: str, told: str) -> None:
    engine = OpenAIEngine(config_of(server, concurrency=2))
    rows = [prompt("slow", row) for row in range(1, 30)]
    with pytest.raises(ConfigError, match=told) as raised:
        engine.generate([prompt(mode), *rows], DECODING)
    assert server.url.split("/")[2] in str(raised.value)
    assert SECRET not in str(raised.value)
    assert len(server.bodies) < 15


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that signs itself, with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    both = tmp_path / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(both), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    both.write_text(both.read_text() + (tmp_path / "cert.pem").read_text())
    return both


def test_an_untrusted_certificate_stops(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MisbehavingServer(certificate) as server:
        with pytest.raises(ConfigError, match=r"certificate of 127\.0\.0\.1:\d+ is not trusted.*SSL_CERT_FILE"):
            OpenAIEngine(config_of(server)).generate([prompt("ok")], DECODING)
        with pytest.raises(ConfigError, match="is not trusted"):
            check(config_of(server))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.parent / "cert.pem"))
        assert OpenAIEngine(config_of(server)).generate([prompt("ok")], DECODING)[0].text == "echo 0"


def test_the_key_goes_to_the_server_and_nowhere_else(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("LT_SPARK_LLM_API_KEY", KEY + "\n")
    server.need_key = KEY
    engine = OpenAIEngine(config_of(server))
    answers = engine.generate([prompt("ok"), prompt("broken"), prompt("half"), prompt("no_usage")], DECODING)
    assert answers[0].text == "echo 0"
    shown = [repr(engine), str(vars(engine)), repr(answers), repr(engine._config)]
    server.need_key = "another"
    for call in (lambda: engine.generate([prompt("ok")], DECODING), lambda: check(config_of(server))):
        with pytest.raises(ConfigError, match="found here: a key") as raised:
            call()
        shown += [str(raised.value), repr(raised.value.__cause__), str(raised.getrepr(style="native"))]
    assert caplog.records
    shown.append("\n".join(f"{record.getMessage()} {record.args}" for record in caplog.records))
    for text in shown:
        assert KEY not in text
        assert SECRET not in text
    sent = pickle.dumps(engine)
    assert KEY.encode() not in sent
    server.need_key = KEY
    assert pickle.loads(sent).generate([prompt("ok", 5)], DECODING)[0].text == "echo 5"


@pytest.mark.parametrize("key", ["two words", "schl\u00fcssel", "a\nb"])
def test_a_key_that_no_header_takes_is_refused_unseen(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("LT_SPARK_LLM_API_KEY", key)
    with pytest.raises(ConfigError, match="LT_SPARK_LLM_API_KEY") as raised:
        OpenAIEngine(config_of(server)).generate([prompt("ok")], DECODING)
    assert key not in str(raised.value)


def test_a_proxy_is_not_asked_for_a_server_on_this_host(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, nobody)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert OpenAIEngine(config_of(server)).generate([prompt("ok")], DECODING)[0].text == "echo 0"


def test_a_proxy_of_the_environment_is_asked_for_a_server_elsewhere(
    server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    config = config_of(server, base_url="http://llm.example.invalid/v1")
    assert OpenAIEngine(config).generate([prompt("ok")], DECODING)[0].text == "echo 0"


@pytest.mark.parametrize(
    ("model", "name"), [("org/small", "org/small"), ("/models/small/", "small"), ("./m/small.gguf", "small.gguf")]
)
def test_the_name_is_no_path(server: MisbehavingServer, model: str, name: str) -> None:
    engine = OpenAIEngine(config_of(server, model=model, revision="r1"))
    assert (engine.model, engine.revision, engine.name, engine.device) == (name, "r1", "openai", "remote")


def test_check_passes_where_the_model_is_listed(server: MisbehavingServer) -> None:
    check(config_of(server))
    assert server.bodies == []


@pytest.mark.parametrize("models", [None, b"<html>", b"\xff", ["alias"], []])
def test_check_asks_for_one_token_where_the_list_does_not_help(server: MisbehavingServer, models: Any) -> None:
    server.models = models
    check(config_of(server))
    assert [body["max_tokens"] for body in server.bodies] == [1]


def test_check_names_what_is_served(server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.engines.misbehaving_server import MODES

    monkeypatch.setitem(MODES, "ok", MODES["unknown_model"])
    server.models = ["smaller", "large"]
    with pytest.raises(ConfigError, match=r"It serves: smaller, large\. Did you mean 'smaller'\?"):
        check(config_of(server))


def test_check_names_the_key_that_is_missing(server: MisbehavingServer) -> None:
    server.need_key = KEY
    with pytest.raises(ConfigError, match="HTTP 401.*LT_SPARK_LLM_API_KEY.*found here: no such variable"):
        check(config_of(server))


def test_check_says_that_nobody_is_there(server: MisbehavingServer) -> None:
    config = config_of(server, base_url=f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(ConfigError, match=r"server at 127\.0\.0\.1:\d+ cannot be used: connection refused\. Start it"):
        check(config)


def test_a_password_in_the_address_is_refused_unseen(server: MisbehavingServer) -> None:
    config = config_of(server, base_url="http://me:hunter2@llm.example.org/v1")
    with pytest.raises(ConfigError, match="no user or password.*llm.example.org") as raised:
        OpenAIEngine(config)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:8000/v1",
        "http://LOCALHOST/v1",
        "http://127.0.0.1/v1",
        "http://127.8.9.1:1",
        "http://[::1]:80/v1",
    ],
)
def test_loopback_is_this_host(url: str) -> None:
    assert not is_remote(url)


@pytest.mark.parametrize(
    "url",
    [
        *("http://10.0.0.5/v1", "http://192.168.1.1/v1", "http://0.0.0.0/v1", "https://llm.example.org/v1"),
        *("http://localhost.example.org/v1", "http://a.localhost/v1", "http://127.0.0.1.example.org/v1"),
        *("http://gpu-box/v1", "http://127.0.0.1@example.org/v1", "http://example.org@127.0.0.1/v1"),
        *("http://example.org\\@127.0.0.1/v1", "http://2130706433/v1", "http://[fe80::1]/v1", "http://[::1/v1", ""),
    ],
)
def test_all_else_is_elsewhere(url: str) -> None:
    assert is_remote(url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
