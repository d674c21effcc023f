"""Examples that are the same for all items: which they are, what is shown of them, what they are calibrated with."""

import numpy as np
import pytest

from lt_spark.core.config_text import DescribeConfig
from lt_spark.enrich import fixed
from lt_spark.enrich.fixed import fixed_examples
from lt_spark.enrich.prompts import ItemText, load_pack

SHOP = DescribeConfig(
    examples="fixed", n_examples=2, keyword_fields=("kind",), input_fields=("maker",), ask_for="keywords"
)
# two kinds of things: four spades near each other, two kettles
VECTORS = np.array([[1, 0], [0.99, 0.14], [0.98, 0.2], [0.995, 0.1], [0, 1], [0.1, 0.995]], dtype=np.float32)
KINDS = ["shop, spade", "shop, spade", "shop, rake", "shop, spade", "shop, kettle", "kettle"]
ITEMS = [ItemText(f"Thing {n}", (("kind", kind), ("maker", f"Maker {n}"))) for n, kind in enumerate(KINDS)]
IDX = np.arange(10, 16, dtype=np.int32)


def choose(section: DescribeConfig = SHOP, n: int = 6) -> fixed.FixedExamples:
    return fixed_examples(IDX[:n], ITEMS[:n], VECTORS[:n], load_pack("ecommerce"), section)


def test_examples_stand_for_the_pool() -> None:
    """The first is near to most; the second is of the other kind, though three more of the first are better known."""
    found = choose()
    assert found.item_idx == (12, 15)
    assert [item.title for item in found.items] == ["Thing 2", "Thing 5"]


def test_the_rarest_keyword_stands_first_and_what_half_the_pool_is_called_is_not_shown() -> None:
    """Five of six are of the shop, three are spades: neither is shown but where an item has nothing else."""
    found = choose()
    assert [answer.keywords for answer in found.answers] == [("rake",), ("kettle",)]
    assert "Keywords: rake\n" in found.others[0].shared
    every = choose(SHOP.model_copy(update={"n_examples": 6}))
    assert dict(zip(every.item_idx, every.answers, strict=True))[10].keywords == ("spade", "shop")
    mixed = choose(SHOP.model_copy(update={"n_examples": 6, "keyword_fields": ("kind", "maker")}))
    of = dict(zip(mixed.item_idx, mixed.answers, strict=True))
    assert of[12].keywords == ("maker 2", "rake")
    assert of[15].keywords == ("maker 5", "kettle"), "two kettles, one maker 5"


def test_other_prompts_show_no_answer_of_their_own_item() -> None:
    found = choose()
    assert [other.own for other in found.others] == [f"Title: Thing {n}\nMaker: Maker {n}\n" for n in (0, 1, 3, 4)], (
        "those that are no examples"
    )
    assert {other.start for other in found.others} == {"Keywords:"}
    assert len({other.shared for other in found.others}) == 1


def test_other_prompts_are_spread_over_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "N_OTHERS", 3)
    found = choose(SHOP.model_copy(update={"n_examples": 0}))
    assert [other.own.splitlines()[0] for other in found.others] == [
        "Title: Thing 0",
        "Title: Thing 2",
        "Title: Thing 4",
    ]


def test_small_pools_give_what_there_is() -> None:
    assert choose(n=1).item_idx == (10,)
    assert choose(n=1).others == ()
    empty = fixed_examples(IDX[:0], [], VECTORS[:0], load_pack("ecommerce"), SHOP)
    assert (empty.item_idx, empty.answers, empty.others) == ((), (), ())
    assert choose(SHOP.model_copy(update={"n_examples": 0})).items == ()
