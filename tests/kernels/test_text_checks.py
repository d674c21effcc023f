"""Each check of a written text: what it passes and what it does not, false alarms first."""

import doctest
import math
import time

import numpy as np
import pytest

from lt_spark.enrich.gate import FORBIDDEN_KINDS, load_words
from lt_spark.kernels import text_checks as checks
from lt_spark.kernels.text_checks import WordList
from lt_spark.kernels.words import stems

LISTED = load_words()
EVERY = {
    kind: [WordList(kinds.get(kind, ()), kinds) for kinds in LISTED.values()] for kind in FORBIDDEN_KINDS
}  # every language at once: the strictest there is


def test_examples_of_the_docstrings() -> None:
    result = doctest.testmod(checks)
    assert result.attempted >= 20 and result.failed == 0


HARMLESS = """
white paint and black screws | blind rivet | dummy cord end | fire retardant foam | flame-retardant cable
master/slave cylinder | master and slave drive | the dyke along the river | dike cutters
shot glass and shot blasting | kill switch | nude pumps | nude lipstick palette in soft nudes | grease nipple
nipple fitting | male and female connector | sex bolts | bastard file | ball cock valve | stopcock | cock feathers
cockpit cover | butt joint | butt hinge | strip light | Maine Coon cat | spic and span cleaner | a chink in the armour
queer cinema | a gay romance | a gay couple adopts a child | a film about slavery and black slaves
the Holocaust and the murder of Jews | women are strong | women should stay hydrated | for women who like them
women's work boots | girls and boys | cheap women's shoes | white trash bags | black trash bags
dirty whites detergent | pussy willow branches | great tits and blue tits | hoe and rake | rapeseed oil | rape seed
suicide prevention | a detective hunts a serial killer | terrorists build a bomb on a train | drug dealers at war
a heroin addict | weed killer | ant killer | roach bait | rat poison | bitter almond | Essex | Scunthorpe United
cracker barrel | redneck comedy | spade drill bit | Paddy fields | crazy glue | insane speed | dumb waiter | dumb bell
idiot-proof | lame duck | cripple creek | blow gun and hand saw | job site | screw you will not lose | laid paper
assassin | classic bass | cocktail | analysis | therapist | the pistil of a flower | titanium | shiitake
Dickens novels | oriental rug | gypsy skirt | Indian cuisine | Chinese tea | Jewish cookbook | Muslim prayer rug
Christian rock | old people's home | transmission fluid for trannies | he/she pronoun pin | golf drivers for women
easy to use for women and men | blonde hair dye | Gift für Kinder | dicke Wolle | Schwarze Schrauben
Frauen und Mädchen | das Zigeunerleben der Musiker | Die Türken vor Wien | la ville de Troyes | vis noires
femmes et filles | une pièce de théâtre | tornillos negros | mujeres y niñas | viti nere | la guerra di Troia
parafusos pretos | mulheres e meninas | zwarte schroeven | vrouwen en meisjes | de Mongolen in Azië
""".replace("\n", " | ").split(" | ")


@pytest.mark.parametrize("text", [text for text in HARMLESS if text.strip()])
def test_harmless_wording_passes(text: str) -> None:
    assert all(checks.unsafe(text, listed) for listed in EVERY["unsafe"])
    assert all(checks.demeaning(text, listed) for listed in EVERY["demeaning"])


@pytest.mark.parametrize(
    ("kind", "language", "text"),
    [
        ("unsafe", "en", "These fucking screws hold."),
        ("unsafe", "en", "A Blow-Job of a tool."),
        ("unsafe", "en", "Death to immigrants!"),
        ("unsafe", "de", "Du Arschloch, kauf das."),
        ("unsafe", "de", "Ausländer raus"),
        ("unsafe", "fr", "Espèce de connard."),
        ("unsafe", "es", "Hijo de puta"),
        ("demeaning", "en", "So easy even a woman can do it."),
        ("demeaning", "en", "Women are too emotional for this."),
        ("demeaning", "en", "Women are emotional."),
        ("demeaning", "en", "Immigrants are criminals."),
        ("demeaning", "en", "All Muslims are terrorists"),
        ("demeaning", "en", "Stupid women will like it."),
        ("demeaning", "en", "Old people are often useless."),
        ("demeaning", "en", "Jewish people are greedy, they say."),
        ("demeaning", "en", "It is too complicated for girls."),
        ("demeaning", "en", "A woman's place is in the kitchen."),
        ("demeaning", "en", "They are subhuman."),
        ("demeaning", "de", "Frauen sind einfach zu dumm dafür."),
        ("demeaning", "de", "Sogar eine Frau kann das."),
        ("demeaning", "fr", "Trop compliqué pour les femmes."),
        ("demeaning", "fr", "Les Arabes sont tous des voleurs."),
        ("demeaning", "es", "Las mujeres son débiles."),
        ("demeaning", "it", "Le donne sono deboli."),
        ("demeaning", "pt", "As mulheres são fracas."),
        ("demeaning", "nl", "Zelfs een vrouw kan het."),
    ],
)
def test_unsafe_and_demeaning_wording_fails(kind: str, language: str, text: str) -> None:
    kinds = LISTED[language]
    assert not getattr(checks, kind)(text, WordList(kinds[kind], kinds))


def test_a_word_list_takes_whole_words_and_gaps() -> None:
    listed = WordList(["bad", "very bad thing", "{who} * {what}", "坏东西"], {"who": ["a b", "c"], "what": ["d"]})
    for text in ("BAD!", "a b d", "c x d", "c x y d.", "so a b x d it is", "这是坏东西"):
        assert listed.finds(text), text
    for text in ("badly", "embad", "c x y z d", "a d", "b d", "坏 东西", ""):
        assert not listed.finds(text), text
    assert not WordList([]).finds("anything")
    assert (WordList(["x"]) | WordList(["y z"])).finds("y z") and (WordList(["x"]) | WordList(["y z"])).finds("x")
    with pytest.raises(KeyError, match="group"):
        WordList(["{group} are"])


@pytest.mark.parametrize(
    ("text", "passes"),
    [("one two three", True), ("one two", False), ("", False), ("x" * 39 + " a b", False), ("不锈钢螺丝", True)],
)
def test_length(text: str, passes: bool) -> None:
    assert checks.length(text, 3, 40) is passes


@pytest.mark.parametrize(
    ("description", "own", "passes"),
    [
        ("A box of the screws for the deck.", "不锈钢内六角螺丝", False),
        ("A box of the screws for the deck.", "Eine Dose mit Schrauben für den Garten und das Haus", False),
        ("A box of the screws for the deck.", "Kreg SML", True),
        ("Steel screws.", "不锈钢内六角螺丝", True),
        ("不锈钢螺丝,适合户外。", "不锈钢内六角螺丝", True),
    ],
)
def test_language(description: str, own: str, passes: bool) -> None:
    assert checks.language(description, own) is passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("candles, candles, candles", False),
        ("candles, candle holders and scented candles", True),
        ("It is a great tool. It is a great tool.", False),  # 5 words follow themselves
        ("a b a b a b and more words here now", False),  # 2 words follow themselves twice
        ("a b a b and more words here now", True),
        ("one one and more words here now", True),
        ("x y x z x y x z q", False),  # 4 words follow themselves; 5 of 9 are repeats
        ("x a x b x c x d", True),  # 3 of 8 are repeats
        ("", True),
    ],
)
def test_repeats(text: str, passes: bool) -> None:
    assert checks.repeats(text, 0.5) is passes


def test_repeats_at_the_limit() -> None:
    assert checks.repeats("p q r q p r", 0.5)  # 3 of 6
    assert not checks.repeats("p q r q p r p", 0.5)  # 4 of 7


def test_echo() -> None:
    assert not checks.echo("The Kreg Pocket Screws are here with this", "Kreg pocket screw, 500", 0.74)  # here is news
    assert checks.echo("The Kreg Pocket Screws are here with this", "Kreg pocket screw, 500", 0.75)  # 3 of 4
    assert not checks.echo("It is the screw.", "Screws", 0.9)
    assert checks.echo("It is for you.", "Screws", 0.9)


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, it is hard to say.", "I am sorry.", "I can describe it.",
        "This description is short.",
        "The keywords are screws and nails.", "Here is a text.", "Here's one: screws.",
        "Sure, a set of screws.",
        "Steel screws. Title: Nails", "Keywords: screws", "These are the keywords", "Based on the given title, screws.",
        "Following the previous instructions it holds.", "The title says screws.", "Certainly! Steel screws.",
        "Als KI kann man das nicht sagen.", "Hier ist der Text.", "En tant qu'IA, c'est dur.", "Voici des vis.",
        "Aquí está el texto.", "Ecco il testo.", "Steel screws. Sorry.", "Cannot help with it.",
    ],
)  # fmt: skip
def test_a_text_about_itself(text: str) -> None:
    assert not checks.about_itself(text)


@pytest.mark.parametrize(
    "text",
    [
        "Coarse screws for wood.", "A title fight in the ring.", "Prompt delivery of keys.", "An assistant finds it.",
        "A user of drugs hides here.", "World War I cannons.",
        "Keyword cards for children.", "This book describes a war.",
        "Surely the best.", "A film about an artificial mind.", "The answer lies in the past.",
    ],
)  # fmt: skip
def test_a_text_about_its_item(text: str) -> None:
    assert checks.about_itself(text)


def test_the_items_own_words_are_not_about_itself() -> None:
    assert checks.about_itself("I Am Legend is a drama.", "I Am Legend (2007) Drama")
    assert not checks.about_itself("I Am Legend is a drama. I can say more.", "I Am Legend (2007) Drama")


def test_numbers() -> None:
    known = {"500", "1", "1/4", "3.5"}
    assert checks.numbers("A 1-1/4 inch screw, 3.5mm, 500 pieces", known)
    assert checks.numbers("No number", known)
    assert not checks.numbers("A 1-1/2 inch screw", known)
    assert not checks.numbers("Since 1932", known)
    assert not checks.numbers("100% steel", known)


def test_names() -> None:
    known = set(stems("Kreg SharpShooter heavy-duty pocket screws"))
    assert checks.names("Stanley began it. These Kreg Screws are Heavy-Duty.", known)
    assert checks.names("These have USB.", known, {"usb"})
    assert checks.names("He said: Strong. “Good” it is.", known)
    assert checks.names("vis de l'Kreg, c'est a Kreg's", known)
    assert not checks.names("These are by Stanley.", known)
    assert not checks.names("Kreg Stanley", known)
    assert not checks.names("These come from Böblingen.", known)
    assert not checks.names("Это винты фирмы Крег.", known)
    assert checks.names("Eine Dose mit Schrauben für den Garten und das Haus.", known)  # German nouns
    assert checks.names("不锈钢螺丝", known)


def test_keywords() -> None:
    known = set(stems("Wood Screws of steel"))
    assert checks.keyword_known("wood screw", known) and checks.keyword_known("screws for wood", known)
    assert not checks.keyword_known("laser screw", known) and not checks.keyword_known("for the", known)
    assert checks.keywords_known(0, 0, 0.0) and not checks.keywords_known(1, 1, 0.5)


def test_similarity() -> None:
    assert checks.cosine(np.array([3.0, 4.0]), np.array([0.0, 2.0])) == pytest.approx(8 / 10)
    assert math.isnan(checks.cosine(np.array([np.nan, 1.0]), np.ones(2)))
    assert checks.similarity(0.25, 0.25) and not checks.similarity(0.2499, 0.25) and not checks.similarity(math.nan, -1)


def test_same_text() -> None:
    others = ["coarse screws for decks", "nails"]
    # 3 of 5 words are shared: coarse, screw, for | wood, deck
    assert checks.same_text("Coarse screws for wood", others, 0.61)
    assert not checks.same_text("Coarse screws for wood", others, 0.6)


@pytest.mark.parametrize(
    "text",
    [
        "See https://example.com/x", "see www.example.org", "mail me@example.com", "example.de has it",
        "shop.example.co.uk",
        "follow @screws_shop", "Call 555-123-4567", "call (555) 123-4567 now", "+49 30 123456", "Tel. 030 / 123 45 67",
        "Telefon: 01234567",
    ],
)  # fmt: skip
def test_contact(text: str) -> None:
    assert not checks.contact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Steel 1-1/4 in, 12-24 V, 100-240V", "Model 4006381333931", "SML-C125-500", "5A @ 12V", "5 @12V",
        "steel.It holds",
        "Node.js and e.g. this", "Dr. No and Mr. Bean", "call of duty 4", "pack of 1,000,000", "1999-2000", "+5 V",
        "3M 3361-2001 tape", "phone case",
    ],
)  # fmt: skip
def test_no_contact(text: str) -> None:
    assert checks.contact(text)


@pytest.mark.parametrize(
    "sign", ["\x00", "\x1b", "\u202e", "\u200b", "\u2066", "\ufeff", "\ue000", "\ud800", "\u00ad", "\n", "\u2028"]
)
def test_control(sign: str) -> None:
    assert not checks.control(f"steel {sign}screws")


def test_no_control() -> None:
    assert checks.control("Größe – “M8” 螺丝 می\u200cخواهم 👍")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "|", " =", "＝"])
def test_formula(start: str) -> None:
    assert not checks.formula(f"{start}1") and checks.formula(f"1{start}")


@pytest.mark.parametrize(
    "token", ["<|im_end|>", "</s>", "[INST]", "{{x}}", "### Response", "<b>", "```", "<start_of_turn>"]
)
def test_template(token: str) -> None:
    assert not checks.template(f"Steel {token} screws") and checks.template("Steel [x] {y} #8 5 < 6")


@pytest.mark.parametrize("piece", ["a", "a-", "a@", "a.", "1", "1 ", "+1 ", "call ", "a'", "螺", "\u0315\u0316", "<"])
def test_a_long_text_takes_linear_time(piece: str) -> None:
    text = piece * (50_000 // len(piece))
    start = time.perf_counter()
    for check in (checks.contact, checks.about_itself, checks.control, checks.template, checks.formula):
        check(text)
    checks.names(text, ())
    checks.numbers(text, ())
    checks.repeats(text, 0.5)
    assert time.perf_counter() - start < 2  # linear: 0.1 s; quadratic: several seconds
