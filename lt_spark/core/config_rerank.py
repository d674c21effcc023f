"""Section of the re-ranking of the blend. conf/base.yaml explains each key for people."""

from pydantic import Field, model_validator

from lt_spark.core.section import Section


class RerankConfig(Section):
    """The blend's lists re-ranked: reach, and, off by default, a quota for tail and cold items and a cap per brand."""

    quota_share: float = Field(0.0, ge=0, lt=1)
    """Wanted share of tail and cold items in every prefix of a list, as a coin would give it (FA*IR); 0: no quota."""
    quota_alpha: float = Field(0.1, gt=0, lt=1)
    """Level of the test: the larger, the more tail and cold items a list must have."""
    quota_adjusted: bool = True
    """Whether the level is that of the whole list instead of each prefix by itself."""
    quota_floor: float = Field(0.5, ge=0, le=1)
    """A tail or cold item is lifted only where its score is at least this share of that of the item it displaces."""
    cap: int | None = Field(None, ge=1)
    """Items with the same value of ``cap_field`` among the first ``cap_k`` places; null: no cap."""
    cap_field: str = ""
    """Attribute of the items that the cap is about, such as brand; items without it are not capped."""
    cap_k: int = Field(10, ge=1)
    """Places that the cap holds for."""
    reach_share: float = Field(0.1, ge=0, le=1)
    """At most so many of the lists get an item that nobody would be shown otherwise; 0: none."""
    reach_k: int = Field(10, ge=1)
    """Places that people see: such an item takes the last of them, in the list that has it highest."""

    @model_validator(mode="after")
    def _complete(self) -> "RerankConfig":
        if self.cap is not None and not self.cap_field:
            raise ValueError("rerank.cap is set without rerank.cap_field: expected the name of an attribute")
        return self
