"""Input as people have it, through the whole pipeline: a result with every row accounted for, or one clear error."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import DataError, LtSparkError, SourceError
from lt_spark.core.storage import Storage
from lt_spark.passes import run
from tests.small_shop import write_shop

pytestmark = pytest.mark.spark


def write_csv(path: Path, rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def shop(folder: Path, log: list[list[Any]] | None = None, catalogue: list[list[Any]] | None = None) -> Config:
    settings = write_shop(folder, n_users=12)
    if log is not None:
        write_csv(folder / "interactions.csv", [["user_id", "item_id", "timestamp"], *log])
    if catalogue is not None:
        write_csv(folder / "items.csv", [["item_id", "title", "kind"], *catalogue])
    return Config.model_validate(settings)


def cleaned(spark: Any, config: Config) -> Storage:
    run(spark, config, stages=["clean"])
    return Storage(spark, config)


def events(*items: str, user: str = "u", start: int = 1_600_000_000) -> list[list[Any]]:
    return [[user, item, start + 60 * place] for place, item in enumerate(items)]


HOSTILE_IDS = [
    "007",
    "12E34",
    "NA",
    "null",
    "NaN",
    " a ",
    "9007199254740993",
    "a'b\"c",
    "a/b\\c",
    "a\nb",
    "é\u202eא",
    "x" * 500,
]


@pytest.mark.slow
def test_ids_come_through_byte_for_byte(spark: Any, tmp_path: Path) -> None:
    log = [row for user in HOSTILE_IDS for row in events(*HOSTILE_IDS, user=user)]
    storage = cleaned(spark, shop(tmp_path, log, [[item, "T", "k"] for item in HOSTILE_IDS]))
    assert {row["user_id"] for row in storage.read(t.USERS).collect()} == set(HOSTILE_IDS)
    assert {row["item_id"] for row in storage.read(t.ITEMS).collect()} == set(HOSTILE_IDS)
    assert storage.count(t.INTERACTIONS) == len(log)


@pytest.mark.slow
def test_what_cannot_be_used_is_refused_with_its_place(spark: Any, tmp_path: Path) -> None:
    log = [
        *events(*"abcdefghij"),
        ["", "a", 1_600_000_000],
        ["u", "", 1_600_000_001],
        ["u", "a", "soon"],
        ["u", "a", 99],
    ]
    config = shop(tmp_path, log, [["a", "T", "k"]])
    loose = config.model_copy(update={"clean": config.clean.model_copy(update={"max_rejected_share": 0.5})})
    storage = cleaned(spark, loose)
    rows = storage.read(t.REJECTED_ROWS).orderBy("record").collect()
    assert [row["record"] for row in rows] == [12, 13, 14, 15]
    assert all(row["file"].endswith("interactions.csv") for row in rows)
    assert "user id is empty" in rows[0]["reason"]
    assert rows[2]["column"] == "timestamp"


@pytest.mark.slow
def test_too_many_refused_rows_stop_the_run_and_leave_the_tables(spark: Any, tmp_path: Path) -> None:
    config = shop(tmp_path, [*events("a", "b"), *[["u", "a", "soon"]] * 3], [["a", "T", "k"]])
    with pytest.raises(DataError, match="time is unreadable"):
        cleaned(spark, config)
    storage = Storage(spark, config)
    assert storage.count(t.REJECTED_ROWS) == 3
    assert not storage.exists(t.INTERACTIONS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "nowhere.csv"}, r"nowhere\.csv"),
        ({"columns": {"user": "user_idd"}}, r"user_idd.*user_id"),
        ({"encoding": "utf-16"}, r"interactions\.csv"),
    ],
)
def test_a_wrong_source_is_named(spark: Any, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    settings = write_shop(tmp_path, n_users=12)
    settings["source"]["interactions"] |= change
    with pytest.raises(LtSparkError, match=message):
        cleaned(spark, Config.model_validate(settings))


def test_an_empty_file_is_named(spark: Any, tmp_path: Path) -> None:
    config = shop(tmp_path)
    (tmp_path / "interactions.csv").write_bytes(b"")
    with pytest.raises(SourceError, match=r"interactions\.csv"):
        cleaned(spark, config)


@pytest.mark.slow
def test_a_catalogue_of_other_ids_is_refused_by_name(spark: Any, tmp_path: Path) -> None:
    config = shop(tmp_path, events("1", "2", "3"), [["x", "T", "k"]])
    with pytest.raises(DataError, match="item_id"):
        cleaned(spark, config)


def edited_delta_source(spark: Any, folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Config:
    """Write a Delta table, change the actions of its log, and return the conf of a shop that reads it."""
    written, source = folder / "written", folder / "delta"
    rows = spark.createDataFrame([("u", "a", 1)], "user_id string, item_id string, timestamp long")
    rows.write.format("delta").save(str(written))
    # copied, and without checksums: Delta would believe what it remembers of the log
    shutil.copytree(written, source, ignore=shutil.ignore_patterns("*.crc"))
    log = next((source / "_delta_log").glob("*.json"))
    actions = [edit(json.loads(line)) for line in log.read_text().splitlines()]
    log.write_text("\n".join(json.dumps(action) for action in actions if action))
    settings = write_shop(folder, n_users=12)
    settings["source"]["interactions"] = {"path": str(source), "format": "delta"}
    return Config.model_validate(settings)


@pytest.mark.slow
def test_a_too_new_delta_source_is_refused(spark: Any, tmp_path: Path) -> None:
    features = {"readerFeatures": ["fromTheFuture"], "writerFeatures": ["fromTheFuture"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    config = edited_delta_source(spark, tmp_path, lambda action: protocol if "protocol" in action else action)
    with pytest.raises(SourceError, match="newer"):
        cleaned(spark, config)


@pytest.mark.slow
def test_a_delta_source_with_a_broken_log_is_refused_by_name(spark: Any, tmp_path: Path) -> None:
    config = edited_delta_source(spark, tmp_path, lambda action: {} if "protocol" in action else action)
    with pytest.raises(SourceError, match="cannot be read as delta"):
        cleaned(spark, config)


ODD_SHOPS: dict[str, tuple[list[list[Any]], list[list[Any]]]] = {
    "one user": (events(*"abcdefgh"), [[item, "T", "k"] for item in "abcdefghij"]),
    "one item": ([row for user in "uvwxyz" for row in events("a", user=user)], [["a", "T", "k"]]),
    "all head": (
        [row for user in "uvwxyz" for row in events("a", "b", "c", "d", user=user)],
        [[item, "T", "k"] for item in "abcd"],
    ),
    "no titles, half the items": (
        [row for place, user in enumerate("uvwxyz") for row in events(*"abcdefgh"[place % 3 :], user=user)],
        [[item, "", ""] for item in "abcd"],
    ),
    "hostile titles": (
        [row for place, user in enumerate("uvwxyz") for row in events(*"abcdefgh"[place % 3 :], user=user)],
        [
            ["a", "x" * 1_000_000, "k"],
            ["b", "\u202eשלום\u202c", "k"],
            ["c", "'; DROP TABLE items; --", "k"],
            ["d", "=cmd|' /C calc'!A0", "<script>"],
            ["e", "😀" * 50, "\u0000k"],
            *[[item, "T", "k"] for item in "fgh"],
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_SHOPS)
def test_an_odd_shop_runs_to_gold(spark: Any, tmp_path: Path, name: str) -> None:
    log, catalogue = ODD_SHOPS[name]
    config = shop(tmp_path, log, catalogue)
    summary = run(spark, config)
    assert {event.kind for event in summary.stages} == {"done"}
    storage = Storage(spark, config)
    n_items, n_events = storage.count(t.ITEMS), storage.count(t.INTERACTIONS)
    assert n_events == len(log)
    assert n_items == len({row[1] for row in log} | {row[0] for row in catalogue})
    segments = storage.read(t.ITEM_SEGMENTS, "live")
    assert segments.count() == n_items
    for row in storage.read(t.GOLD_RECOMMENDATIONS).collect():
        assert len(row["title"] or "") <= config.clean.max_title_chars
    for row in storage.read(t.METRICS).collect():
        assert row["value"] is None or row["value"] == row["value"]  # no NaN
