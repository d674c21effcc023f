"""Words, stems, numbers and the guess of a language."""

import doctest

import pytest

from lt_spark.kernels import words as module
from lt_spark.kernels.words import language_of, numbers_of, stem, stems, words


def test_examples_of_the_docstrings() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 5 and result.failed == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("... -- !", []),
        ("Steel SCREWS, heavy-duty", ["steel", "screws", "heavy", "duty"]),
        ("1/2 in, 3.5mm, 1,000 pcs.", ["1/2", "in", "3.5mm", "1,000", "pcs"]),
        ("M8x1.25 and TR-100", ["m8x1.25", "and", "tr", "100"]),
        ("end 5. Next a/c b.c", ["end", "5", "next", "a", "c", "b", "c"]),
        ("women's don’t d'acier", ["women's", "don’t", "d'acier"]),
        ("Größe Straße ÉCLAIR", ["grösse", "strasse", "éclair"]),
        ("fu\u0308r", ["für"]),
        ("हिन्दी शब्द", ["हिन्दी", "शब्द"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("不锈钢螺丝", ["不锈", "锈钢", "钢螺", "螺丝"]),
        ("螺 M8螺丝", ["螺", "m8", "螺丝"]),
        ("ネジ", ["ネジ"]),
        ("สกรู", ["สก", "กร", "รู"]),
        ("나사 볼트", ["나사", "볼트"]),
        ("ＵＳＢ　３", ["usb", "3"]),
        ("snake_case #8 €5", ["snake", "case", "8", "5"]),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


def test_ascii_and_other_texts_are_read_alike() -> None:
    text = "Kreg 1-1/4 in. don't 3.5mm x9.5.2 1,000 A/C"
    assert words(text + " é")[:-1] == words(text)


@pytest.mark.parametrize(
    ("word", "folded"),
    [
        ("screws", "screw"), ("boxes", "box"), ("batteries", "battery"), ("glasses", "glass"), ("brushes", "brush"),
        ("glass", "glass"), ("bus", "bus"), ("gas", "gas"), ("lens", "lens"), ("lenses", "lens"),
        ("chassis", "chassis"),
        ("its", "its"), ("ties", "tie"), ("women's", "woman"), ("kreg’s", "kreg"), ("l'acier", "acier"),
        ("knives", "knife"), ("1990s", "1990"), ("größes", "größes"), ("o'n", "o'n"),
    ],
)  # fmt: skip
def test_stem(word: str, folded: str) -> None:
    assert stem(word) == folded
    assert stem(folded) == folded


def test_stems_of_a_text() -> None:
    assert stems("Wood Screws, wood screw") == ["wood", "screw", "wood", "screw"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no number", set()),
        ("1,000 or 1000 pcs", {"1000"}),
        ("1-1/4 in, 3.5mm, 2,5 cm", {"1", "1/4", "3.5", "2.5"}),
        ("10x20 TR100", {"10", "20", "100"}),
        ("٣٫٥ and ３", {"3", "5"}),
    ],
)
def test_numbers(text: str, found: set[str]) -> None:
    assert numbers_of(text) == found


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A box of coarse screws for the deck and the fence.", "en"),
        ("Eine Dose mit Schrauben für den Garten und das Haus.", "de"),
        ("Une boîte de vis pour le bois avec des chevilles.", "fr"),
        ("Una caja de tornillos para la madera y el metal.", "es"),
        ("Una scatola di viti per il legno con le rondelle.", "it"),
        ("Uma caixa de parafusos para a madeira com as porcas.", "pt"),
        ("Een doos met schroeven voor het hout en de tuin.", "nl"),
        ("不锈钢内六角螺丝 M8", "zh"),
        ("ステンレス製の六角ボルト", "ja"),
        ("스테인리스 나사 세트", "ko"),
        ("مسامير من الفولاذ", "ar"),
        ("Нержавеющие винты для дерева", "ru"),
        ("ברגים מפלדה", "he"),
        ("Βίδες από ανοξείδωτο ατσάλι", "el"),
        ("สกรูสแตนเลส", "th"),
        ("स्टील के पेंच", "hi"),
        ("پیچ فولادی", ""),  # Persian
        ("Нержавіючі гвинти", ""),  # Ukrainian
        ("Kreg SML-C125-500", ""),
        ("Die Hard in the dark", ""),
        ("die der das in, the of and in", ""),  # four words of German, four of English
        ("A. O. E. com por", ""),  # initials
        ("OOK de OOK OOK OOK", ""),  # a brand, however often
        ("L.A. D.O.A. O.J. (2000)", ""),
        ("M8 不锈 stainless steel socket", ""),  # two languages
        ("", ""),
    ],
)
def test_language(text: str, language: str) -> None:
    assert language_of(text) == language
