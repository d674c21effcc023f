from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import DataError, StorageError
from lt_spark.models.text_bert.data import (
    PAIRS,
    Pairs,
    batches,
    log_shares,
    masked_negatives,
    read_training,
    read_valid,
)
from lt_spark.models.text_bert.texts import history_text, item_text
from tests.models.text_bert.tiny_bert import section, titles, write_log


def pairs_of(users: list[int], targets: list[int]) -> Pairs:
    none = [np.empty(0, np.int32) for _ in users]
    return Pairs(np.array(users, np.int32), none, np.array(targets, np.int32), np.ones(len(users)), none)


def test_batches_hold_each_pair_once_in_an_order_of_seed_and_epoch() -> None:
    first = list(batches(10, 4, seed=1, epoch=1))
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(np.concatenate(first)) == list(range(10))
    assert all((a == b).all() for a, b in zip(first, batches(10, 4, seed=1, epoch=1), strict=True))
    for seed, epoch in ((1, 2), (2, 1)):
        assert not (np.concatenate(first) == np.concatenate(list(batches(10, 4, seed, epoch)))).all()


def test_shares_are_of_the_targets() -> None:
    found = np.exp(log_shares(np.array([7, 7, 7, 9], np.int32)))
    np.testing.assert_allclose(found, [3 / 4, 3 / 4, 3 / 4, 1 / 4], rtol=1e-6)


def test_own_targets_and_known_items_are_no_negatives() -> None:
    known = {1: np.array([7, 8]), 2: np.array([7]), 3: np.array([9])}
    found = masked_negatives(pairs_of([1, 2, 3, 4], [7, 7, 9, 8]), known)
    assert found.astype(int).tolist() == [
        [0, 1, 0, 1],  # knows 8 from another row, which 7 again is its own target
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],  # nothing is known of user 4
    ]


def test_files_are_read_in_the_order_of_users_whatever_theirs(tmp_path: Path) -> None:
    training = read_training(write_log(tmp_path / "a", held_out=0.3), section())
    assert (np.diff(training.pairs.users) > 0).all() and (np.diff(training.held_out.users) > 0).all()
    assert len(training.pairs) + len(training.held_out) == 96 and len(training.held_out) > 5
    assert not set(training.pairs.users) & set(training.held_out.users)
    assert training.catalogue.history([0, 33]) == f"{titles()[33]}. {titles()[0]}", "the newest first"
    assert training.known[0].tolist() == sorted([training.pairs.histories[0][0], training.pairs.targets[0]])


def test_items_without_text_teach_nothing(tmp_path: Path) -> None:
    texts = {item: text for item, text in titles().items() if item != 33} | {40: None, 41: "  ", 42: "\u200b\u00ad"}
    folder = write_log(tmp_path / "a", texts=texts)
    training = read_training(folder, section())
    gone = {33, 40, 41, 42}
    assert not gone & set(training.catalogue.texts)
    assert not gone & set(training.pairs.targets.tolist())
    assert not gone & {int(item) for near in training.pairs.hard for item in near}
    assert len(training.pairs) < 96
    assert not gone & set(read_valid(folder, training.catalogue).items.tolist())


def test_no_pairs_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to learn from.*found 0 pairs.*leave text_bert out of blend.models"):
        read_training(write_log(tmp_path / "a", pairs=[], known=[]), section())
    with pytest.raises(DataError, match="found 96 pairs, none of which may teach"):
        read_training(write_log(tmp_path / "b", texts={1: ""}), section())


def test_files_that_are_not_there_or_of_other_columns(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="texts cannot be read.*Run the stage text_bert again"):
        read_training(write_log(tmp_path / "a").child("nowhere"), section())
    folder = write_log(tmp_path / "b")
    (tmp_path / "b" / PAIRS / "part.parquet").write_bytes(b"PAR1 no Parquet")
    with pytest.raises(StorageError, match="pairs cannot be read"):
        read_training(folder, section())


def test_texts_are_cleaned_and_cut() -> None:
    few = section(item_max_tokens=8, max_tokens=16)
    hostile = item_text("<b>Oven</b>\u202e <|im_start|> tray\u200b", few)
    assert hostile.split()[0] == "Oven" and hostile.split()[-1] == "tray"
    assert not any(sign in hostile for sign in ("<", ">", "|", "\u202e", "\u200b"))
    assert len(item_text("x" * 1_000_000, few)) <= 8 * 16
    assert item_text(None, few) == ""
    assert item_text("Café Zürich 東京 🍵", few).startswith("Café Zürich 東京")
    long = history_text(["y" * 120, "Pan.", "third is too old"], few)
    assert long == "y" * 48 + ". Pan", "no title crowds the others out"
    assert history_text(["", "Pan"], few) == "Pan" and history_text([], few) == ""


def test_settings_out_of_range_are_refused() -> None:
    assert (TextBertConfig().rate, TextBertConfig(method="full").rate) == (2e-4, 2e-5)
    assert TextBertConfig(learning_rate=0.1).rate == 0.1
    for wrong in ({"batch_size": 1}, {"temperature": 0}, {"method": "qlora"}, {"item_max_tokens": 256}, {"epoch": 1}):
        with pytest.raises(ValidationError):
            TextBertConfig.model_validate(wrong)
