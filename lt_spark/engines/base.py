"""What every engine is: prompts in, texts and token counts out, a bad prompt never the fault of its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Prompt:
    """A prompt in the parts that an engine may treat differently; the model reads them in this order.

    Attributes:
        shared: how the prompts of a call begin, the same for all of them: its keys and values can be kept.
        own: the rest of what is shown: examples, then the item.
        start: how the answer begins (``Keywords:``); a completing model goes on from there, a chat model is told.
    """

    shared: str
    own: str
    start: str = ""

    @property
    def text(self) -> str:
        """The whole as a completing model reads it."""
        return self.shared + self.own + self.start


@dataclass(frozen=True)
class Decoding:
    """How an answer is drawn.

    Attributes:
        max_new_tokens: most tokens of an answer.
        temperature: 0: the likeliest token always.
        seed: of the draw, where the temperature is above 0.
        max_lines: an answer ends after so many lines (the line of ``Prompt.start`` is the first); 0: no such end.
        presence_penalty: taken off the score of each word that the answer has already; 0: nothing is.
        calibration: how much of what is likely for any item (the mean over ``others``) is taken off where a keyword of
            the first line begins, from 0 to 1. An engine that is not shown the scores leaves it out.
        others: prompts of other items, with the same beginning.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    max_lines: int = 0
    presence_penalty: float = 0.0
    calibration: float = 0.0
    others: tuple[Prompt, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What came back of one prompt.

    Attributes:
        text: the answer without ``Prompt.start``; empty where there is an error.
        n_prompt_tokens: tokens read, those of a kept beginning included.
        n_output_tokens: tokens written.
        seconds: the row's share of its batch's time.
        error: why there is no answer; empty where there is one. Never holds text of the prompt.
    """

    text: str
    n_prompt_tokens: int = 0
    n_output_tokens: int = 0
    seconds: float = 0.0
    error: str = ""


class Engine(Protocol):
    """A language model that answers prompts."""

    name: str
    """transformers, openai."""
    model: str
    """The model's name as it stands in the tables: no path of a machine."""
    revision: str
    """Its version; part of the key."""
    device: str
    """Where it runs: cpu, cuda:0, remote."""

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Answer]:
        """Answer each prompt: as many answers as prompts, in their order. What fails is an answer with an error."""
        ...
