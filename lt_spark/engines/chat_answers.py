"""A prompt as chat messages, and a chat model's answer as the lines that a completing model would have written."""

import json
import re

from lt_spark.engines.base import Prompt

REASONING = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
FENCE = re.compile(r"^[ \t]*```(?:[\w+-]*[ \t]*\n)?(.*?)(?:```|\Z)", re.DOTALL | re.MULTILINE)
# **Keywords:** and **Keywords**:
EMPHASISED_LABEL = re.compile(r"^[ \t]*(?:#+[ \t]*)?([*_]{1,3})(\w[\w ]*)(?::\1|\1:)", re.MULTILINE)


def messages(prompt: Prompt) -> list[dict[str, str]]:
    """Return what is shared as the system's message and the rest as the user's, with how the answer begins.

    Args:
        prompt: the prompt; an empty ``shared`` gives no system message.

    Returns:
        One or two messages of the chat completions API.
    """
    own = prompt.own.rstrip()
    if prompt.start.strip():
        own += f'\n\nReply with the answer alone. Begin it with "{prompt.start.strip()}".'
    system = [{"role": "system", "content": prompt.shared.strip()}] if prompt.shared.strip() else []
    return [*system, {"role": "user", "content": own}]


def answer_text(content: str, start: str = "", max_lines: int = 0) -> str:
    """Return the answer as a completing model would have gone on from ``start``.

    Reasoning in ``<think>``, a code fence, emphasis of labels and a sentence before the answer go; an object in JSON
    becomes lines; ``start`` is cut off where the model repeated it.

    Args:
        content: the text of the chat message.
        start: how the answer was to begin.
        max_lines: lines that are kept, empty ones not counted; 0: all.

    Returns:
        The text without ``start``, stripped; may be empty.
    """
    text = REASONING.sub("", content.replace("\r\n", "\n"), count=1).strip()
    text = EMPHASISED_LABEL.sub(r"\2:", as_lines(without_fence(text)))
    text = without_start(text, start).strip()
    if max_lines:
        text = "\n".join([line for line in text.split("\n") if line.strip()][:max_lines])
    return text


def without_fence(text: str) -> str:
    """Return what stands inside the first code fence, closed or not; a text without a fence as it is."""
    fence = FENCE.search(text)
    # a fence after the answer is the model going on, not the answer
    if fence is None or (fence.start() > 0 and not _is_preamble(text[: fence.start()])):
        return text
    return fence.group(1).strip()


def without_start(text: str, start: str) -> str:
    """Cut off ``start``, in any case of letters, and a sentence that announces the answer before it."""
    label = start.strip()
    if not label:
        return text
    found = re.search(rf"^[ \t]*{re.escape(label)}", text, re.IGNORECASE | re.MULTILINE)
    # further down it begins the answer to an item that the model made up
    if found is None or (found.start() > 0 and not _is_preamble(text[: found.start()])):
        return text
    return text[found.end() :]


def as_lines(text: str) -> str:
    """Turn ``{"keywords": [...], "description": "..."}`` into ``Keywords: ...`` and ``Description: ...``.

    Args:
        text: an answer.

    Returns:
        One line a field that is a text or a list of texts, in the object's order; any other text as it is.
    """
    if not text.startswith("{"):
        return text
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return text
    lines = []
    for name, value in fields.items():
        parts = value if isinstance(value, list) else [value]
        if parts and all(isinstance(part, str) for part in parts):
            # a line break inside a value would look like a field
            joined = ", ".join(" ".join(part.split()) for part in parts)
            lines.append(f"{' '.join(name.split()).capitalize()}: {joined}")
    return "\n".join(lines) or text


def _is_preamble(text: str) -> bool:
    """Whether a text before the answer only announces it: one line that ends like a sentence or with a colon."""
    line = text.strip()
    return not line or ("\n" not in line and line.endswith((":", ".", "!")))
