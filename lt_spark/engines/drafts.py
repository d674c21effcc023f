"""Guesses of what a row's answer goes on with, made of its own prompt: several tokens are then checked in one step.

An answer repeats what stands in its prompt: words of the title, keywords of the examples, the labels. What the model
itself would have written is kept, the first wrong guess and all after it are dropped, so that the text is the same.
Source: prompt lookup decoding (Saxena 2023), a case of speculative decoding (Leviathan, Kalman and Matias 2023).
"""

from collections.abc import Sequence

from lt_spark.engines.base import Decoding

N_GUESSES = 3
"""Tokens guessed at once: each is read like one of a prompt, so more cost more than they bring on a CPU."""
_SIZES = (3, 2, 1)


class Draft:
    """The tokens of a row so far, and where each run of up to three of them stood last."""

    def __init__(self, tokens: Sequence[int]) -> None:
        """Take the prompt's tokens."""
        self._tokens: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}
        self.add(tokens)

    def add(self, tokens: Sequence[int]) -> None:
        """Add tokens that were written."""
        for token in tokens:
            at = len(self._tokens)
            for size in _SIZES:
                if at >= size:
                    self._next[tuple(self._tokens[at - size : at])] = at
            self._tokens.append(token)

    def guess(self, n: int) -> list[int]:
        """Return up to ``n`` tokens: what followed when the last three, two or one stood in the row before.

        Examples:
            >>> Draft([5, 6, 7, 8, 5, 6]).guess(3)
            [7, 8, 5]
            >>> Draft([5, 6, 7]).guess(3)
            []
        """
        for size in _SIZES:
            at = self._next.get(tuple(self._tokens[-size:]))
            if at is not None:
                return self._tokens[at : at + n]
        return []


class Writing:
    """A row that is being written.

    Attributes:
        place: its place among the batch's rows.
        tokens: what was written so far.
        guessed: what may follow, read with the last token.
        is_going: whether more is to be written.
        n_read: tokens whose keys and values are held.
    """

    def __init__(self, place: int, prompt: list[int], decoding: Decoding) -> None:
        """Begin with the prompt's tokens."""
        self.place = place
        self.tokens: list[int] = []
        self.guessed: list[int] = []
        self.is_going = True
        self.n_read = len(prompt) - 1
        self._decoding = decoding
        self._n_lines = 0
        self._draft = Draft(prompt)

    def take(self, chosen: list[int], stops: set[int], n_newlines: dict[int, int]) -> int:
        """Take what the model chose after the last token and after each guess, as far as the guesses were right.

        Returns:
            How many of the tokens that were read are the answer's.
        """
        if not self.is_going:
            return 0
        new: list[int] = []
        for at, token in enumerate(chosen):
            if token in stops:
                self.is_going = False
                break
            new.append(token)
            self._n_lines += n_newlines.get(token, 0)
            is_full = len(self.tokens) + len(new) == self._decoding.max_new_tokens
            if is_full or 0 < self._decoding.max_lines <= self._n_lines:
                self.is_going = False
                break
            if at == len(self.guessed) or self.guessed[at] != token:
                break
        self.tokens += new
        self._draft.add(new)
        self.n_read += len(new)
        return len(new)

    def next(self, n_guesses: int) -> list[int]:
        """Return what is to be read next: the last token, and what may follow it."""
        self.guessed = self._draft.guess(n_guesses) if self.is_going and n_guesses else []
        return [self.tokens[-1] if self.tokens else 0, *self.guessed]


def read_next(rows: list[Writing], n_guesses: int) -> list[list[int]]:
    """Return what each row reads next, filled up to the same length with what is not looked at."""
    read = [row.next(n_guesses) for row in rows]
    width = max(map(len, read))
    return [tokens + [0] * (width - len(tokens)) for tokens in read]
