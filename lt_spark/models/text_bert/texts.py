"""Item and history texts as the tower reads them: one rule for training and for use. No Spark."""

from collections.abc import Sequence

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.kernels.hostile import clean_text

_CHARS_PER_TOKEN = 16
"""A text is cut to so many characters a token before it is cleaned: the encoder would see no more of it."""
_CHARS_IN_HISTORY = 6
"""In a history an item's text has so many characters a token of its own: no title crowds out the others."""


def item_text(text: str | None, section: TextBertConfig) -> str:
    """Return an item's text, cleaned of what is invisible or hostile; empty where nothing is left."""
    return clean_text(text or "", section.item_max_tokens * _CHARS_PER_TOKEN).strip()


def history_text(newest_first: Sequence[str], section: TextBertConfig) -> str:
    """Return a history as one text, the newest title first, so that what is cut at the end is the oldest.

    Args:
        newest_first: the items' texts, as :func:`item_text` gives them; of more than ``section.history_items`` the
            first count, empty ones are left out.
        section: section ``text_bert``.
    """
    most = section.item_max_tokens * _CHARS_IN_HISTORY
    return ". ".join(text[:most].rstrip(" .") for text in newest_first[: section.history_items] if text)
