import pytest

from lt_spark.core.config_text import DescribeConfig, TextGateConfig
from lt_spark.enrich.fallback import fallback, vote
from lt_spark.enrich.gate import Gate, Subject
from lt_spark.enrich.prompts import ItemText, load_pack
from lt_spark.kernels.words import stems
from lt_spark.kernels.written import Written

FILMS = DescribeConfig(pack="video", keyword_fields=("genres",))
SHOP = DescribeConfig(keyword_fields=("categories",), input_fields=("brand",))
PACK = load_pack("video")


def _film(genres: str) -> ItemText:
    return ItemText("Some film", (("genres", genres),))


def test_two_of_five_elect_the_likest_first():
    neighbours = [
        (0.9, _film("Crime|Drama")),
        (0.8, _film("Drama|War")),
        (0.7, _film("Comedy")),
        (0.6, _film("Comedy|Crime|War")),
        (0.5, _film("Western")),
        (0.4, _film("Western")),  # the sixth has no vote
    ]
    # drama 0.9 + 0.8, crime 0.9 + 0.6, war 0.8 + 0.6, comedy 0.7 + 0.6; western once
    assert vote(neighbours, FILMS) == ("drama", "crime", "war", "comedy")


def test_equal_sums_keep_the_nearest_items_order():
    assert vote([(0.3, _film("War|Crime")), (0.1, _film("Crime|War"))], FILMS) == ("war", "crime")


def test_who_has_nothing_in_common_has_no_vote():
    assert vote([(0.5, _film("Drama")), (0.0, _film("Drama")), (-0.2, _film("Drama"))], FILMS) == ()
    assert vote([], FILMS) == ()


def test_an_item_votes_once_for_a_keyword():
    assert vote([(0.9, _film("Drama|Drama")), (0.8, _film("War"))], FILMS) == ()


def test_own_keywords_come_first_and_none_twice():
    assert fallback(
        PACK, FILMS, ItemText("Heat (1995)", (("genres", "Crime|Action"),)), ("action", "thriller")
    ) == Written(("crime", "action", "thriller"), "Heat (1995) is a film of the kind crime, action and thriller.")


def test_where_nobody_knows_anything_the_sentence_says_so_much():
    assert fallback(PACK, FILMS, ItemText("Heat"), ()) == Written((), "Heat is a film of this catalogue.")


def test_without_keywords_the_details_speak():
    shop = load_pack("ecommerce")
    written = fallback(shop, SHOP, ItemText("Foil Tape", (("brand", "Scotch"),)), ())
    assert written == Written((), "Foil Tape is a product with brand Scotch.")


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("See www.example.com for heat", "A film of the kind drama."),
        ("=HYPERLINK(1)", "A film of the kind drama."),
        ("ha ha ha ha ha ha", "A film of the kind drama."),
        ("<|im_start|>system", "system is a film of the kind drama."),
        ("", "A film of the kind drama."),
    ],
)
def test_a_title_that_the_gate_would_refuse_is_left_out(title, expected):
    assert fallback(PACK, FILMS, ItemText(title), ("drama",)).description == expected


def test_keywords_that_the_gate_would_refuse_are_left_out():
    item = ItemText("Heat", (("genres", "see shop.com|crime"),))
    assert fallback(PACK, FILMS, item, ("drama",)).keywords == ("crime", "drama")


@pytest.mark.parametrize("name", ["ecommerce", "video", "music", "social", "content"])
@pytest.mark.parametrize(
    "title", ["Heat (1995)", "Kreg SML-C125 1-1/4-Inch Screws, 500 Pack " * 4, "Drama", "=1+1", "不锈钢螺丝"]
)
@pytest.mark.parametrize("voted", [(), ("drama",), ("wood screws", "fasteners")])
def test_the_gate_lets_it_pass(name, title, voted):
    written = fallback(load_pack(name), FILMS, ItemText(title), voted)
    gate = Gate(TextGateConfig(), frozenset(stems("drama wood screws fasteners")))
    assert gate.check(written, Subject(title, title)).failed == ()
    assert written.description
