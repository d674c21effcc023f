"""A server that speaks OpenAI's chat API (vLLM, TGI, llama.cpp, a gateway): many requests at once, faults as rows."""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from lt_spark.core.config_text import LanguageModelConfig
from lt_spark.core.errors import ConfigError, LtSparkError, nearest
from lt_spark.engines.base import Answer, Decoding, Prompt
from lt_spark.engines.chat_answers import answer_text
from lt_spark.engines.openai_client import NO_SUCH_ROUTE, complete, connect, fault, host_of, is_remote

if TYPE_CHECKING:
    from openai import OpenAI

CHARS_PER_TOKEN = 4
"""Characters of a token where the server does not count: about right for English; Chinese has more tokens than that."""
LONGEST_TOKEN = 8
"""A prompt of more characters than this a token is hardly within ``max_prompt_tokens``."""
LONGEST_ANSWER_TOKEN = 64
"""An answer of more characters than this a token does not come from a server that counts them."""
CHECK_SECONDS = 10.0
"""Longest wait for the list of models."""

__all__ = ["OpenAIEngine", "check", "is_remote"]

log = logging.getLogger(__name__)


class OpenAIEngine:
    """The engine ``openai``: chat completions of a server, ``language_model.concurrency`` at once.

    Retries, back-off (0.5 s, doubled up to 8 s, less up to a quarter by chance) and Retry-After (up to two minutes) are
    the ``openai`` library's. The key is read from the environment when the first request is made; it is no
    attribute of the engine and does not travel with it.
    """

    name = "openai"
    device = "remote"

    def __init__(self, config: LanguageModelConfig) -> None:
        """Keep the settings; nothing is sent.

        Args:
            config: the section ``language_model``.

        Raises:
            ConfigError: base_url or model is missing, or base_url holds a password.
        """
        host_of(config.base_url)
        self._config = config
        self._client: OpenAI | None = None
        self._told_estimate = False
        # llama.cpp and others name a model by its path
        is_path = config.model.startswith(("/", "./", "~"))
        self.model = config.model.rstrip("/").rsplit("/", 1)[-1] if is_path else config.model
        self.revision = config.revision

    def __repr__(self) -> str:
        """Return what it is without anything secret."""
        return f"OpenAIEngine(model={self.model!r}, host={host_of(self._config.base_url)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the client: it holds the key and connections."""
        return {**self.__dict__, "_client": None}

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Answer]:
        """Ask for every prompt and wait for all of them.

        Args:
            prompts: any number.
            decoding: how answers are drawn; ``max_lines`` is cut here.

        Returns:
            An answer a prompt, in their order. What failed after the retries has an error. Where the server tells no
            token counts they are estimated, one for every four characters.

        Raises:
            ConfigError: what would fail for every row: a refused key, an unknown model, an untrusted certificate.
        """
        if not prompts:
            return []
        if self._client is None:
            self._client = connect(self._config)
        begin = time.perf_counter()
        pool = ThreadPoolExecutor(self._config.concurrency, thread_name_prefix="lt-spark-openai")
        try:
            futures = [pool.submit(self._ask, self._client, prompt, decoding) for prompt in prompts]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            # the rest would fail in the same way
            pool.shutdown(cancel_futures=True)
        seconds = (time.perf_counter() - begin) / len(prompts)
        return [_with_seconds(future.result(), seconds) for future in futures]

    def _ask(self, client: "OpenAI", prompt: Prompt, decoding: Decoding) -> Answer:
        if len(prompt.text) > LONGEST_TOKEN * self._config.max_prompt_tokens:
            return Answer("", error="the prompt is longer than language_model.max_prompt_tokens")
        try:
            body = complete(client, self._config, prompt, decoding)
            answer, is_estimate = read_completion(body, prompt, decoding)
        except LtSparkError:
            raise
        except Exception as error:  # whatever a server or a text brings about stays in its row
            return Answer("", error=fault(error, self._config))
        if is_estimate and not self._told_estimate:
            self._told_estimate = True
            log.warning("The server tells no token counts: they are estimated at %s characters", CHARS_PER_TOKEN)
        return answer


def check(config: LanguageModelConfig) -> None:
    """Ask whether the server is there and serves the model, before any task starts.

    The list of models (GET /models) is asked first. A server that has no such list, or does not list the model, is
    asked for an answer of one token: some go by other names.

    Args:
        config: the section ``language_model``.

    Raises:
        ConfigError: no server, a refused key, an untrusted certificate, an unknown model.
    """
    import openai

    where = host_of(config.base_url)
    client = connect(config)
    served: list[str] = []
    try:
        response = client.with_options(timeout=min(CHECK_SECONDS, config.timeout_s)).models.with_raw_response.list()
        served = [model.id for model in _Models.model_validate_json(response.http_response.content).data]
    except openai.APIStatusError as error:
        if error.status_code not in NO_SUCH_ROUTE:
            raise _unusable(where, fault(error, config)) from None
    except openai.APIConnectionError as error:
        raise _unusable(where, fault(error, config)) from None
    except ValidationError:
        log.debug("%s lists no models that can be read", where)
    if config.model in served:
        return
    try:
        _Completion.model_validate_json(complete(client, config, Prompt("", "Hello"), Decoding(max_new_tokens=1)))
    except ConfigError as error:
        hint = nearest(config.model, served)
        names = f" It serves: {', '.join(served[:10])}.{hint}" if served else ""
        raise ConfigError(f"{error}{names}") from None
    except Exception as error:
        raise _unusable(where, fault(error, config)) from None


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice] = Field(max_length=64)
    usage: Any = None


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


def read_completion(body: bytes, prompt: Prompt, decoding: Decoding) -> tuple[Answer, bool]:
    """Read the body of a chat completion; a body that is not one is an answer with an error.

    Args:
        body: the bytes that came.
        prompt: what was asked.
        decoding: how the answer was to be drawn.

    Returns:
        The answer, and whether its token counts are estimates: one for every four characters.
    """
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError as error:
        return Answer("", error=_unreadable(body, error)), False
    content = completion.choices[0].message.content if len(completion.choices) == 1 else None
    n_prompt = _count(completion.usage, "prompt_tokens")
    n_output = _count(completion.usage, "completion_tokens")
    is_estimate = n_prompt is None or n_output is None
    counts = {
        "n_prompt_tokens": len(prompt.text) // CHARS_PER_TOKEN if n_prompt is None else n_prompt,
        "n_output_tokens": len(content or "") // CHARS_PER_TOKEN if n_output is None else n_output,
    }
    if len(completion.choices) != 1:
        reason = f"{len(completion.choices)} choices came, expected 1"
    elif completion.choices[0].finish_reason == "content_filter":
        reason = "the server's content filter refused"
    elif content is None:
        reason = "the message has no text"
    elif len(content) > LONGEST_ANSWER_TOKEN * decoding.max_new_tokens:
        reason = "the answer is far longer than language_model.max_new_tokens"
    else:
        text = answer_text(content, prompt.start, decoding.max_lines)
        return Answer(text, **counts, error="" if text else "the answer is empty"), is_estimate
    return Answer("", **counts, error=reason), is_estimate


def _unreadable(body: bytes, error: ValidationError) -> str:
    if not body.strip():
        return "the response is empty"
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return "the response is not valid UTF-8"
    is_json = all(part["type"] != "json_invalid" for part in error.errors(include_input=False, include_context=False))
    return "the response is not a chat completion" if is_json else "the response is not JSON"


def _unusable(where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"language_model.base_url: the server at {where} cannot be used: {reason}. Start it, or set the address of one "
        "that this host and every executor can reach."
    )


def _count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value < 2**31 else None


def _with_seconds(answer: Answer, seconds: float) -> Answer:
    return Answer(answer.text, answer.n_prompt_tokens, answer.n_output_tokens, seconds, answer.error)
