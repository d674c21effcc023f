"""What a language model wrote of an item, taken apart."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Written:
    """A parsed answer: keywords (K_L) in their order, lower case, none twice, and one description (T_L)."""

    keywords: tuple[str, ...]
    description: str

    @property
    def text(self) -> str:
        """Both as one text, for an encoder."""
        return ". ".join(part for part in (self.description.rstrip("."), ", ".join(self.keywords)) if part)
