"""The connection to a server that speaks OpenAI's chat API, and what each of its faults means."""

import ipaddress
import os
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from lt_spark.core.config_text import LanguageModelConfig
from lt_spark.core.errors import ConfigError
from lt_spark.engines.base import Decoding, Prompt
from lt_spark.engines.chat_answers import messages

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

MAX_BODY_BYTES = 8 * 2**20
"""Largest body of a response that is read."""
CONNECT_SECONDS = 10.0
"""Longest wait for a connection."""

UNSENT = ("x-stainless", "openai-")
NO_SUCH_ROUTE = (404, 405, 501)
HOPELESS = {
    "model_not_found": "it does not know the model: set language_model.model to a name that it serves",
    "insufficient_quota": "the account has no money left: pay, or use another server",
    "unsupported_parameter": "the model takes no max_tokens, temperature or seed: use another model or a gateway",
    "unsupported_value": "the model does not take language_model.temperature: set what it allows",
    "invalid_api_key": "it does not accept the key",
}
"""Codes of errors that would come back for every row, and what to do."""


def is_remote(base_url: str) -> bool:
    """Whether a server is not on this host: anything but ``localhost`` and loopback addresses.

    Args:
        base_url: its address.

    Returns:
        True also for private ranges, names that may lead here, and what cannot be read.
    """
    try:
        parts = urlsplit(base_url)
        host = (parts.hostname or "").lower()
    except ValueError:
        return True
    # who reads user:password@host differently would reach another host
    if "@" in parts.netloc or "\\" in parts.netloc:
        return True
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def host_of(base_url: str) -> str:
    """Return host and port of the server for messages.

    Args:
        base_url: its address.

    Returns:
        ``host:port``, or the host alone where no port is named.

    Raises:
        ConfigError: there is no host, or a user or password in the address.
    """
    try:
        parts = urlsplit(base_url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise ConfigError("language_model.base_url: expected an address such as http://127.0.0.1:8000/v1")
    if "@" in parts.netloc or "\\" in parts.netloc:
        raise ConfigError(
            f"language_model.base_url: expected no user or password in the address of {host}. Put the key into the "
            "environment variable that language_model.api_key_variable names."
        )
    return f"{host}:{port}" if port else host


def connect(config: LanguageModelConfig) -> "OpenAI":
    """Return a client of the server, with the key of this process's environment.

    Redirects are not followed, as they would take prompts to a host that nobody named. The proxies of the environment
    (HTTPS_PROXY, NO_PROXY) hold for a server elsewhere and never for one on this host.

    Args:
        config: the section ``language_model``.

    Returns:
        A client for many threads.

    Raises:
        ConfigError: the key holds what no HTTP header can.
    """
    import openai

    class BoundedClient(openai.DefaultHttpxClient):
        """Reads a body to the end inside the retries, within bounds of size and time."""

        def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            deadline = time.monotonic() + config.timeout_s
            # what machine asks, and whose account an environment meant for another server names, is nobody's business
            unsent = {name: request.headers.pop(name) for name in list(request.headers) if name.startswith(UNSENT)}
            response = super().send(request, stream=True, **options)
            request.headers.update(unsent)  # the library looks there for how to hand the response over
            body = bytearray()
            try:
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        raise openai.APIError("body too large", request, body=None)
                    if time.monotonic() > deadline:
                        raise openai.APITimeoutError(request)
            finally:
                response.close()
            return type(response)(
                response.status_code, headers=response.headers, content=bytes(body), request=response.request
            )

    direct = None if is_remote(config.base_url) else {"http://": None, "https://": None}
    return openai.OpenAI(
        base_url=config.base_url,
        api_key=_key(config),
        timeout=openai.Timeout(config.timeout_s, connect=min(CONNECT_SECONDS, config.timeout_s)),
        max_retries=config.max_retries,
        # a small body may blow up when it is unpacked
        default_headers={"Accept-Encoding": "identity"},
        http_client=BoundedClient(follow_redirects=False, mounts=direct),
    )


def complete(client: "OpenAI", config: LanguageModelConfig, prompt: Prompt, decoding: Decoding) -> bytes:
    """Ask for one chat completion.

    Args:
        client: of ``connect``.
        config: the section ``language_model``.
        prompt: what is asked.
        decoding: how the answer is drawn.

    Returns:
        The body of the response, unread.

    Raises:
        ConfigError: a fault that would come back for every row.
        openai.OpenAIError: any other fault, after the retries.
    """
    import openai

    try:
        response = client.chat.completions.with_raw_response.create(
            model=config.model,
            messages=messages(prompt),  # type: ignore[arg-type]  # a list of plain dicts
            max_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            seed=decoding.seed,
            presence_penalty=decoding.presence_penalty or openai.omit,  # not every server knows it
        )
    except openai.APIError as error:
        fault(error, config)
        raise
    return response.http_response.content


def fault(error: Exception, config: LanguageModelConfig) -> str:
    """Say why there is no answer, without anything of the prompt, the response or the key.

    Args:
        error: what was raised.
        config: the section ``language_model``.

    Returns:
        A short reason for the row.

    Raises:
        ConfigError: the fault would come back for every row.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_fault(error, config)
    if isinstance(error, openai.APITimeoutError):
        return "no answer in time"
    if isinstance(error, openai.APIConnectionError):
        if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)):
            raise ConfigError(
                f"language_model.base_url: the certificate of {host_of(config.base_url)} is not trusted. Let the "
                "environment variable SSL_CERT_FILE, on the driver and every executor, name a file with the "
                "authority that signed it, and use the name that it was made for."
            ) from None
        if any(isinstance(cause, ConnectionRefusedError) for cause in _causes(error)):
            return "connection refused"
        return "no connection, or it broke"
    if type(error) is openai.APIError:
        return f"the response is larger than {MAX_BODY_BYTES >> 20} MiB"
    return f"could not be asked: {type(error).__name__}"


def _status_fault(error: "APIStatusError", config: LanguageModelConfig) -> str:
    status, where = error.status_code, host_of(config.base_url)
    code = error.code if isinstance(error.code, str) else ""
    if status in (401, 403):
        found = "a key" if os.environ.get(config.api_key_variable) else "no such variable"
        mend = (
            f"it does not let this key in. Expected its key in the environment variable {config.api_key_variable} "
            f"(language_model.api_key_variable), on the driver and every executor; found here: {found}"
        )
    elif code in HOPELESS:
        mend = HOPELESS[code]
    elif status in NO_SUCH_ROUTE:
        mend = (
            f"it does not know the model '{config.model}', or has no chat there. Set language_model.model to a name "
            "that it serves, and language_model.base_url to the address before /chat/completions (mostly ending in /v1)"
        )
    elif 300 <= status < 400:
        mend = "it leads elsewhere, and prompts do not follow. Set language_model.base_url to the server itself"
    else:
        return f"HTTP {status}"
    raise ConfigError(f"language_model.base_url: the server at {where} answers HTTP {status}: {mend}.") from None


def _key(config: LanguageModelConfig) -> str:
    key = os.environ.get(config.api_key_variable, "").strip()
    if not (key.isascii() and (key.isprintable() and " " not in key)):
        raise ConfigError(
            f"The environment variable {config.api_key_variable} (language_model.api_key_variable) holds blanks or "
            "letters that no HTTP header takes: expected the server's key alone."
        )
    # the library wants a key, a server without one ignores it
    return key or "none"


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain
