"""Typing errors made on purpose, the same at every call."""

import hashlib
import re

_WORD = re.compile(r"[^\W\d_]{4,}")
_SCALE = 2**32


def with_typos(text: str, share: float, seed: int) -> str:
    """Return a text in which two neighbouring letters of some words have changed places.

    Args:
        text: any text.
        share: share of the words of at least four letters that get a typo, chosen by a hash of word, place and seed.
        seed: seed of the choice.
    """

    def mistyped(match: re.Match[str]) -> str:
        word = match.group()
        if not word.isalpha():  # with a fraction or a numeral that is no digit
            return word
        digest = hashlib.blake2b(f"{seed} {match.start()} {word}".encode(), digest_size=8).digest()
        if int.from_bytes(digest[:4], "big") >= share * _SCALE:
            return word
        place = 1 + int.from_bytes(digest[4:], "big") % (len(word) - 2)
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]

    return _WORD.sub(mistyped, text)
