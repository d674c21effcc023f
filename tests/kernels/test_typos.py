"""Typing errors made on purpose."""

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from lt_spark.kernels.typos import with_typos


@given(st.text(max_size=200), st.floats(0, 1), st.integers(0, 2**31))
@example("AAA¼", 1.0, 0)
def test_letters_change_places_within_their_words_only(text, share, seed):
    changed = with_typos(text, share, seed)
    assert len(changed) == len(text)
    assert Counter(changed) == Counter(text)
    assert changed == with_typos(text, share, seed)
    moved = [place for place, (old, new) in enumerate(zip(text, changed, strict=True)) if old != new]
    assert all(text[place].isalpha() for place in moved)


def test_the_share_is_of_words_of_four_letters_and_more():
    words = [f"word{chr(97 + place % 26)}{chr(97 + place // 26 % 26)}" for place in range(4_000)]
    text = " ".join(words)
    assert with_typos(text, 0.0, 1) == text
    for share in (0.1, 1.0):
        changed = [old != new for old, new in zip(words, with_typos(text, share, 1).split(), strict=True)]
        assert abs(sum(changed) / len(words) - share) < 0.03
    assert with_typos("the cat sat 12345", 1.0, 1) == "the cat sat 12345"
    assert with_typos("Amélie", 1.0, 1) != "Amélie"
    assert with_typos(text, 0.1, 1) != with_typos(text, 0.1, 2)
