"""What speaks for a recommendation: models and items of the history, with their shares of the score."""

from pyspark.sql import Column
from pyspark.sql import functions as F

N_REASONS = 3


def model_shares(parts: Column, score: Column) -> Column:
    """Return the models that spoke for an item, strongest first.

    Args:
        parts: array of (part, model_name, because), part the model's share of the score, at least 0.
        score: the sum of the parts, above 0.

    Returns:
        array<struct<model_name, share>>; shares sum to 1; ties by name; models without a share are left out.
    """
    spoke = F.filter(parts, lambda part: part["part"] > 0)
    shares = F.transform(
        spoke, lambda part: F.struct((-part["part"] / score).alias("minus"), part["model_name"].alias("model_name"))
    )
    return F.transform(
        F.array_sort(shares),
        lambda part: F.struct(part["model_name"].alias("model_name"), (-part["minus"]).alias("share")),
    )


def blended_because(parts: Column, score: Column) -> Column:
    """Return the history items that speak most for an item over all models.

    An item's share is the sum over models of (the model's share of the score) x (the item's share within the model).

    Returns:
        array<struct<item_idx, share>> of at most 3, strongest first, ties by item_idx.
    """
    named = F.flatten(
        F.transform(
            parts,
            lambda part: F.transform(
                part["because"],
                lambda reason: F.struct(
                    reason["item_idx"].alias("item_idx"), (reason["share"] * part["part"] / score).alias("share")
                ),
            ),
        )
    )
    items = F.array_distinct(F.transform(named, lambda reason: reason["item_idx"]))
    summed = F.transform(
        items,
        lambda item: F.struct(
            (
                -F.aggregate(
                    F.filter(named, lambda reason: reason["item_idx"] == item),
                    F.lit(0.0),
                    lambda total, reason: total + reason["share"],
                )
            ).alias("minus"),
            item.alias("item_idx"),
        ),
    )
    spoke = F.filter(summed, lambda reason: reason["minus"] < 0)
    return F.transform(
        F.slice(F.array_sort(spoke), 1, N_REASONS),
        lambda reason: F.struct(reason["item_idx"].alias("item_idx"), (-reason["minus"]).alias("share")),
    )
