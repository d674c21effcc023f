"""What is changed of a model's scores before a token is chosen: words said before, and what is likely for any item.

Fixed examples bias a small model: it says of every item what the last example says. Batch calibration (Zhou et al.
2024, "Batch Calibration: Rethinking Calibration for In-Context Learning and Prompt Engineering"; first Zhao et al.
2021, "Calibrate Before Use") takes off what it would say of other items too. The presence penalty is OpenAI's, for
tokens with a letter or digit only: commas and line ends come back in every answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedTokenizerBase

from lt_spark.engines.drafts import Writing

LEAST_LIKELY = 3.0
"""A calibrated token is one of those at most this far, in log probability, below the likeliest."""
_FLOOR = 1e-4
_COMMAS = (",", "，", "、")


@dataclass(frozen=True)
class _Kinds:
    """Tokens with a letter or digit, and tokens that end a keyword."""

    is_silent: list[bool]
    commas: frozenset[int]
    silent: torch.Tensor


class Scores:
    """Changes scores for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Keep the tokenizer; its tokens are looked at when they are first needed."""
        self._tokenizer = tokenizer

    @cached_property
    def _kinds(self) -> _Kinds:
        texts = self._tokenizer.batch_decode([[token] for token in range(len(self._tokenizer))])
        is_silent = [not any(map(str.isalnum, text)) for text in texts]
        commas = frozenset(token for token, text in enumerate(texts) if text.endswith(_COMMAS))
        return _Kinds(is_silent, commas, torch.tensor([at for at, silent in enumerate(is_silent) if silent]))

    def penalise(self, logits: torch.Tensor, rows: Sequence[Writing], penalty: float) -> None:
        """Take the penalty off each token that its row has said before, in place.

        Args:
            logits: scores of each row's next token, (rows, vocabulary).
            rows: what was written so far.
            penalty: what is taken off.
        """
        is_silent = self._kinds.is_silent
        said = [
            (number, token)
            for number, row in enumerate(rows)
            for token in set(row.tokens)
            if token < len(is_silent) and not is_silent[token]
        ]
        if said:
            numbers, tokens = zip(*said, strict=True)
            logits[list(numbers), list(tokens)] -= penalty

    def calibrated(
        self,
        logits: torch.Tensor,
        rows: Sequence[Writing],
        usual: torch.Tensor,
        share: float,
        n_newlines: dict[int, int],
    ) -> tuple[list[tuple[int, int]], torch.Tensor]:
        """Return where a keyword begins, and the calibrated scores there.

        Args:
            logits: scores of each row's next token, and of those after each of its guesses, (rows, places, vocabulary).
            rows: what was written so far.
            usual: log of the mean probability of each token as the first of an answer, by ``log_of_mean``.
            share: how much of it is taken off.
            n_newlines: line ends of the tokens that have any: only the first line has keywords.

        Returns:
            (row, place) of each beginning; scores, (beginnings, vocabulary).
        """
        kinds = self._kinds
        places = [
            (number, place)
            for number, row in enumerate(rows)
            for place in range(min(logits.shape[1], len(row.guessed) + 1))
            if _begins_keyword([*row.tokens, *row.guessed[:place]], kinds.commas, n_newlines)
        ]
        if not places:
            return [], logits[:0, 0]
        numbers, spots = zip(*places, strict=True)
        likely = logits[list(numbers), list(spots)].float().log_softmax(-1)
        off = share * usual
        # a comma or the end of the line is no word that could be usual: it is treated like the most usual one
        off[kinds.silent.to(off.device)] = share * usual.max()
        far = likely < likely.max(-1, keepdim=True).values - LEAST_LIKELY
        return places, (likely - off).masked_fill(far, -torch.inf)


def log_of_mean(probabilities: torch.Tensor) -> torch.Tensor:
    """Return the log of mean probabilities, (rows, vocabulary) to (vocabulary); never below log 0.0001."""
    return (probabilities.mean(0) + _FLOOR).log()


def _begins_keyword(before: Sequence[int], commas: frozenset[int], n_newlines: dict[int, int]) -> bool:
    """Whether a keyword begins after the answer's tokens so far: at its start, or after a comma of its first line."""
    if not before:
        return True
    return before[-1] in commas and not any(token in n_newlines for token in before)
