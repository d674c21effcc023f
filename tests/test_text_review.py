"""People's verdicts: a sample that a spreadsheet opens safely, and what comes back from it."""

import csv
import shutil
from collections import Counter
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lt_spark import enrich_stages as es
from lt_spark import text_review
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, DataError, RunLockedError, StorageError
from lt_spark.core.runs import RunLock
from lt_spark.core.storage import Storage
from lt_spark.enrich import work
from lt_spark.text_review import COLUMNS, export_reviews, import_reviews
from tests.enrich_shop import write_enrich_shop
from tests.fake_model import fake_model

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]
HOSTILE = '=HYPERLINK("http://x.example";"a"), \n +1'


def enrichment(number: int, status: str, reason: str | None = None, **values: Any) -> dict[str, Any]:
    """A row of the table; what the model wrote of it stands in ``answer``, and passed where it was accepted."""
    is_used = status == "accepted"
    return {
        "key": f"k{number:03d}",
        "item_idx": number,
        "content_hash": f"text {number}",
        "description": f"Written {number}." if is_used else f"Made of metadata {number}.",
        "keywords": ["written"] if is_used else ["metadata"],
        "has_own_keywords": is_used,
        "status": status,
        "reason": reason,
        "fallback_description": f"Made of metadata {number}.",
        "fallback_keywords": ["metadata"],
        "answer": f" written\nDescription: Written {number}.",
        "input_key": f"in {number}",
        "engine": "openai",
        "is_current": True,
    } | values


ROWS = [
    *(enrichment(number, "accepted") for number in range(30)),
    *(enrichment(number, "fallback", "echo, length") for number in range(30, 36)),
    *(enrichment(number, "fallback", "length") for number in range(36, 38)),
    enrichment(40, "refused", "form", answer="No.", description=None, keywords=None,
               fallback_description="", fallback_keywords=[]),
    enrichment(41, "refused", "unsafe", description=None, keywords=None,
               fallback_description=None, fallback_keywords=None),
    enrichment(42, "failed", "the server's time ran out", answer=None, description=None, keywords=None),
    enrichment(43, "accepted", is_current=False),
    enrichment(44, "accepted", reviewed_by="Ada", reviewed_at=datetime(2026, 1, 1)),
    enrichment(45, "fallback", "formula", description="-2 items, \"quoted\"; more",
               answer=" =cmd, ＠at\nDescription: @SUM(1+1)*cmd|' /C calc'!A0 <|im_end|> is a \u202etool."),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(spark: Any, tmp_path_factory: Any) -> Path:
    """The tables, as describe leaves them: tests work on copies of the folder."""
    folder = tmp_path_factory.mktemp("reviewed")
    storage = storage_of(spark, folder)
    titles = {45: HOSTILE}
    items = [(row["item_idx"], titles.get(row["item_idx"], f"Title {row['item_idx']}")) for row in ROWS]
    for table, rows in (
        (t.ITEMS, [{"item_idx": idx, "title": title} for idx, title in items]),
        (t.ITEM_ENRICHMENTS, ROWS),
    ):
        names = table.column_names
        given = [tuple(row.get(name) for name in names) for row in rows]
        storage.write(table, spark.createDataFrame(given, table.schema)) if table is t.ITEMS else storage.merge_new(
            table, spark.createDataFrame(given, table.schema)
        )
    return folder


def config_of(folder: Path) -> Config:
    return Config.model_validate({"tables": {"root": str(folder / "t")}, "files": {"root": str(folder / "f")}})


def storage_of(spark: Any, folder: Path) -> Storage:
    return Storage(spark, config_of(folder))


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the lock out: it costs seconds, and has a test of its own."""
    monkeypatch.setattr("lt_spark.text_review.RunLock", lambda storage, config: nullcontext())


@pytest.fixture
def storage(spark: Any, made: Path, tmp_path: Path) -> Storage:
    shutil.copytree(made, tmp_path / "shop")
    return storage_of(spark, tmp_path / "shop")


def current(storage: Storage) -> dict[str, dict[str, Any]]:
    return {row["key"]: row.asDict() for row in storage.read(t.ITEM_ENRICHMENTS).collect()}


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as handle:
        return list(csv.DictReader(handle))


def verdicts(file: Path, *rows: dict[str, str], encoding: str = "utf-8", delimiter: str = ",") -> Path:
    """A file as a spreadsheet saves it."""
    with file.open("w", newline="", encoding=encoding) as handle:
        writer = csv.DictWriter(handle, COLUMNS, restval="", delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_a_sample_of_every_status_and_reason(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "texts.csv"
    assert export_reviews(storage, file, 20, 7, force=False) == 20
    rows = read(file)
    found = Counter((row["status"], row["reason"].split(", ")[0]) for row in rows)
    # six strata: one each of three, both of another, and the two large ones share the rest
    assert found == {
        ("accepted", ""): 9,
        ("fallback", "echo"): 6,
        ("fallback", "length"): 2,
        ("fallback", "formula"): 1,
        ("refused", "form"): 1,
        ("refused", "unsafe"): 1,
    }
    assert [row["status"] for row in rows] == sorted(row["status"] for row in rows)
    assert not {"k042", "k043", "k044"} & {row["key"] for row in rows}, "failed, not current, judged already"
    assert {(row["verdict"], row["reviewed_by"]) for row in rows} == {("", "")}
    by_key = {row["key"]: row for row in rows}
    accepted = next(row for row in rows if row["status"] == "accepted")
    number = int(accepted["key"][1:])
    told = ("title", "description", "keywords", "shown_instead")
    assert [accepted[name] for name in told] == [f"Title {number}", f"Written {number}.", "written", ""]
    assert [by_key["k036"][name] for name in told] == ["Title 36", "Written 36.", "written", "Made of metadata 36."]
    assert [by_key["k040"][name] for name in told] == ["Title 40", "", "", ""]
    assert not file.read_bytes().startswith(b"\xef\xbb\xbf\xef\xbb\xbf")
    assert file.read_bytes().startswith(b"\xef\xbb\xbfkey,")
    with pytest.raises(ConfigError, match="is there already, and is not overwritten. Give --force"):
        export_reviews(storage, file, 5, 7, force=False)
    assert len(read(file)) == 20
    assert export_reviews(storage, file, 4, 7, force=True) == 4
    small = read(file)
    assert len({(row["status"], row["reason"]) for row in small}) == 4, "as many kinds as there is room for"
    with pytest.raises(ConfigError, match="cannot be written"):
        export_reviews(storage, tmp_path, 4, 7, force=True)


def test_hostile_cells_are_text_in_one_cell_each(storage: Storage, tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    export_reviews(storage, file, 100, 7, force=False)
    (row,) = (row for row in read(file) if row["key"] == "k045")
    assert set(row) == set(COLUMNS), "no cell too many"
    assert row["title"] == '\'=HYPERLINK("http://x.example";"a"), +1'
    assert row["description"] == "'@SUM(1+1)*cmd|' /C calc'!A0 is a tool."
    assert row["keywords"] == "'=cmd, ＠at"
    assert row["shown_instead"] == '\'-2 items, "quoted"; more'
    frame = pd.read_csv(file, dtype=str, keep_default_na=False)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(ROWS) - 3
    assert frame.set_index("key").loc["k045"].to_dict() == {name: row[name] for name in COLUMNS if name != "key"}
    for cell in frame.to_numpy().ravel():
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) and "\n" not in cell


def test_verdicts_come_back(unlocked: None, storage: Storage, tmp_path: Path) -> None:
    before = current(storage)
    file = verdicts(
        tmp_path / "v.csv",
        {"key": "k000", "verdict": "Reject ", "reviewed_by": "Ada"},
        {"key": "k001", "verdict": "accept", "reviewed_by": "Ada", "description": "what stands here is not read"},
        {"key": "k002", "description": "nothing said"},
        {"key": "k030", "verdict": "accept", "reviewed_by": "Bob <|im_end|>"},
        {"key": "k045", "verdict": "accept", "reviewed_by": "Bob"},
        {"key": "k041", "verdict": "reject", "reviewed_by": "Bob"},
        {"key": "k042", "verdict": "edit", "reviewed_by": "Bob", "description": "'=1+1 is two.",
         "keywords": "'-a, Garden Tool, ,garden tool"},
        {"key": "k044", "verdict": "edit", "reviewed_by": "Bob", "description": "New 'text'.\nTwo lines."},
    )  # fmt: skip
    started = datetime.now(UTC)
    counts = import_reviews(storage, config_of(tmp_path / "shop"), file)
    assert counts == {"accepted": 3, "rejected": 2, "edited": 2, "without a verdict": 1}
    after = current(storage)
    assert {key for key in after if after[key] != before[key]} == {
        "k000", "k001", "k030", "k045", "k041", "k042", "k044"
    }  # fmt: skip
    told = ("status", "reason", "description", "keywords", "has_own_keywords", "reviewed_by")
    assert {key: tuple(after[key][name] for name in told) for key in after if after[key] != before[key]} == {
        "k000": ("fallback", "rejected by a person", "Made of metadata 0.", ["metadata"], False, "Ada"),
        "k001": ("accepted", None, "Written 1.", ["written"], True, "Ada"),
        "k030": ("accepted", None, "Written 30.", ["written"], True, "Bob"),
        # as the file showed it: without what would steer a model or hide
        "k045": ("accepted", None, "@SUM(1+1)*cmd|' /C calc'!A0 is a tool.", ["=cmd", "＠at"], True, "Bob"),
        "k041": ("refused", "rejected by a person", None, [], False, "Bob"),
        "k042": ("accepted", None, "=1+1 is two.", ["-a", "garden tool"], True, "Bob"),
        "k044": ("accepted", None, "New 'text'. Two lines.", [], False, "Bob"),
    }
    stored = storage.read(t.ITEM_ENRICHMENTS).where("key = 'k000'").selectExpr("unix_timestamp(reviewed_at)").first()[0]
    assert 0 <= stored - int(started.timestamp()) < 600, "UTC, whatever this machine's time zone"
    unchanged = ("answer", "input_key", "is_current", "fallback_description", "content_hash")
    assert all(after[key][name] == before[key][name] for key in after for name in unchanged)


@pytest.mark.slow
def test_what_a_person_judged_is_never_asked_again(
    unlocked: None, spark: Any, storage: Storage, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "shop")
    fingerprints = [es.outside(spark, config, storage, "describe")]
    for verdict, description in (("reject", ""), ("edit", "Mine.")):
        row = {
            "key": "k000",
            "verdict": verdict,
            "reviewed_by": "Ada",
            "description": description,
            "keywords": "metadata",
        }
        import_reviews(storage, config, verdicts(tmp_path / "v.csv", row))
        fingerprints.append(es.outside(spark, config, storage, "describe"))
    assert len({str(each) for each in fingerprints}) == 3, "each verdict makes the stage's tables stale"
    enrichments = storage.read(t.ITEM_ENRICHMENTS)
    todo = spark.createDataFrame(
        [("new key", 0, "text 0"), ("k001", 1, "text 1"), ("new", 2, "text 2"), ("newer", 0, "another text")],
        "key string, item_idx int, content_hash string",
    )
    assert {row["key"] for row in work.left_out(todo, enrichments).collect()} == {"new", "newer"}
    assert {row["key"] for row in work.current_keys(todo, enrichments).collect()} == {"k000", "k001", "new", "newer"}


GOOD = {"key": "k000", "verdict": "reject", "reviewed_by": "Ada"}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"key": "k001", "verdict": "maybe", "reviewed_by": "Ada"}, "record 3: verdict: expected one of accept, rej"),
        ({"key": "k999", "verdict": "accept", "reviewed_by": "Ada"}, "record 3: no text has its key"),
        ({"key": "", "verdict": "accept", "reviewed_by": "Ada"}, "record 3: no text has its key"),
        ({"key": "k000", "verdict": "accept", "reviewed_by": "Ada"}, "record 3: its key stands in an earlier record"),
        ({"key": "k001", "verdict": "accept", "reviewed_by": " \u200b"}, "record 3: reviewed_by is empty"),
        ({"key": "k001", "verdict": "edit", "reviewed_by": "Ada"}, "record 3: description is empty"),
        ({"key": "k040", "verdict": "accept", "reviewed_by": "Ada"}, "record 3: nothing was written that could be"),
        ({"key": "k042", "verdict": "accept", "reviewed_by": "Ada"}, "record 3: nothing was written that could be"),
    ],
)
def test_one_bad_record_and_nothing_is_written(
    spark: Any, made: Path, tmp_path: Path, row: dict[str, str], told: str
) -> None:
    storage = storage_of(spark, made)
    before = storage.version(t.ITEM_ENRICHMENTS)
    with pytest.raises(DataError, match=told) as caught:
        import_reviews(storage, config_of(made), verdicts(tmp_path / "v.csv", GOOD, row))
    assert "1 verdicts cannot be used, and none was taken" in str(caught.value)
    assert storage.version(t.ITEM_ENRICHMENTS) == before


def test_all_bad_records_are_counted_and_the_first_named(spark: Any, made: Path, tmp_path: Path) -> None:
    rows = [{"key": f"x{n}", "verdict": "accept", "reviewed_by": "Ada"} for n in range(12)]
    with pytest.raises(DataError) as caught:
        import_reviews(storage_of(spark, made), config_of(made), verdicts(tmp_path / "v.csv", *rows))
    lines = str(caught.value).splitlines()
    assert "12 verdicts cannot be used" in lines[0]
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == [f"record {n}" for n in range(2, 10)]
    assert lines[-1].strip() == "and 4 more"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"key,verdict,reviewed_by\nk000,reject,Ada\n", r"\['description', 'keywords'\] missing"),
        (b"", "missing"),
        ("key,description,keywords,verdict,reviewed_by\nk000,Caf\xe9,a,edit,Ada\n".encode("latin-1"), "CSV in UTF-8"),
        (b'key,description,keywords,verdict,reviewed_by\nk000,"open,a,edit,Ada\n', "CSV in UTF-8"),
    ],
)
def test_a_file_that_is_not_one_is_refused(spark: Any, made: Path, tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "v.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=told):
        import_reviews(storage_of(spark, made), config_of(made), file)
    with pytest.raises(DataError, match="none.csv cannot be read: No such file"):
        import_reviews(storage_of(spark, made), config_of(made), tmp_path / "none.csv")


def test_a_file_of_more_rows_than_a_person_judges_is_refused(
    spark: Any, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_review, "_MAX_ROWS", 2)
    with pytest.raises(DataError, match="at most 2 verdicts"):
        import_reviews(storage_of(spark, made), config_of(made), verdicts(tmp_path / "v.csv", GOOD, GOOD, GOOD))


@pytest.mark.slow
def test_a_file_as_spreadsheets_save_it(unlocked: None, storage: Storage, tmp_path: Path) -> None:
    """Semicolons where the comma is the decimal mark, a byte-order mark, blank lines, columns left out."""
    file = verdicts(
        tmp_path / "v.csv",
        {"key": "k000", "verdict": "edit", "reviewed_by": "Zoë", "description": "Für Holz; fein.", "keywords": "holz"},
        encoding="utf-8-sig",
        delimiter=";",
    )
    file.write_bytes(file.read_bytes() + b"\r\nk001;;;;;;;maybe\r\n")
    with pytest.raises(DataError, match="record 4: verdict"):
        import_reviews(storage, config_of(tmp_path / "shop"), file)
    file.write_bytes(file.read_bytes().replace(b"maybe", b""))
    assert import_reviews(storage, config_of(tmp_path / "shop"), file)["edited"] == 1
    row = current(storage)["k000"]
    assert (row["description"], row["keywords"], row["reviewed_by"]) == ("Für Holz; fein.", ["holz"], "Zoë")


@pytest.mark.slow
def test_it_waits_for_no_run_and_lets_none_in(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, file = config_of(tmp_path / "shop"), verdicts(tmp_path / "v.csv", GOOD)
    run = Storage(storage.spark, config, "run-1")
    with RunLock(run, config), pytest.raises(RunLockedError, match="run run-1 holds these tables"):
        import_reviews(storage, config, file)
    held: list[str] = []
    delta = Storage.delta

    def watched(self: Storage, table: t.Table) -> Any:
        if table is t.ITEM_ENRICHMENTS:
            held.append(self.read(t.RUN_LOCK).first()["run_id"])
        return delta(self, table)

    monkeypatch.setattr(Storage, "delta", watched)
    import_reviews(storage, config, file)
    assert held and all(held), "while it writes, the lock has a holder"
    assert storage.read(t.RUN_LOCK).first()["run_id"] == ""


def test_before_there_are_texts_it_says_so(spark: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="silver.item_enrichments is not at .* yet: run stage describe first"):
        export_reviews(storage_of(spark, tmp_path), tmp_path / "v.csv", 5, 7, force=False)
    assert not (tmp_path / "v.csv").exists()


@pytest.mark.slow
def test_a_persons_word_outlives_a_new_prompt_and_reaches_the_vectors(spark: Any, tmp_path: Path) -> None:
    import yaml

    import lt_spark.enrich
    from lt_spark.passes import run

    with fake_model() as server:
        settings = write_enrich_shop(tmp_path, server.url)
        settings["embed_enriched"] = {"override": "accept"}
        config = Config.model_validate(settings)
        run(spark, config, purpose="evaluate", last="embed_enriched")
        storage = Storage(spark, config)

        def vectors() -> dict[int, tuple[bool, list[float]]]:
            rows = storage.read(t.ITEM_EMBEDDINGS_ENRICHED).collect()
            return {row["item_idx"]: (row["has_text"], row["vector"]) for row in rows}

        before = vectors()
        file = tmp_path / "v.csv"
        export_reviews(storage, file, 1_000, 7, force=False)
        edited, rejected, *rest = read(file)
        judged = [
            {"key": edited["key"], "verdict": "edit", "reviewed_by": "Ada", "description": "Catches rain for roses.",
             "keywords": "rain barrel"},
            {"key": rejected["key"], "verdict": "reject", "reviewed_by": "Ada"},
        ]  # fmt: skip
        import_reviews(storage, config, verdicts(tmp_path / "w.csv", *judged))
        idx = {row["key"]: row["item_idx"] for row in storage.read(t.ITEM_ENRICHMENTS).collect()}
        asked = server.asked.copy()
        run(spark, config, purpose="evaluate", last="embed_enriched")
        assert server.asked == asked, "a verdict asks nothing"
        after = vectors()
        changed = {item for item in after if after[item] != before[item]}
        assert changed == {idx[edited["key"]], idx[rejected["key"]]}
        assert not after[idx[rejected["key"]]][0], "a rejected text is no part of the vector"

        words = Path(lt_spark.enrich.__file__).parent / "packs" / "ecommerce.yaml"
        mine = tmp_path / "mine.yaml"
        mine.write_text(yaml.safe_dump(yaml.safe_load(words.read_text("utf-8")) | {"name": "mine"}), "utf-8")
        settings["describe"]["pack"] = str(mine)
        run(spark, Config.model_validate(settings), purpose="evaluate", last="embed_enriched")
        new = server.asked - asked
        titles = {edited["title"], rejected["title"]}
        assert sum(new.values()) == len(rest) and not titles & set(new)
        rows = {row["key"]: row for row in storage.read(t.ITEM_ENRICHMENTS).where("is_current").collect()}
        assert len(rows) == len(rest) + 2
        kept = rows[edited["key"]]
        assert (kept["description"], kept["status"], kept["reviewed_by"], kept["prompt_version"]) == (
            "Catches rain for roses.", "accepted", "Ada", "ecommerce-1"
        )  # fmt: skip
        assert rows[rejected["key"]]["reason"] == "rejected by a person"
        others = [row for key, row in rows.items() if key not in (edited["key"], rejected["key"])]
        assert {row["prompt_version"] for row in others} == {"mine-1"}
        assert {row["status"] for row in others} == {"accepted"}, "an item's own former text is no other item's"
