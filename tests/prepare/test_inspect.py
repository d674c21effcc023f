"""What `lt-spark init` guesses from files as people have them."""

import gzip
import json
import random
from pathlib import Path

import pytest

from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.core.errors import ConfigError, SourceError
from lt_spark.prepare.heads import HEAD_BYTES, decode_head
from lt_spark.prepare.inspect import conf_text, inspect_files, missing_message, plain_name, time_kind

RANDOM = random.Random(7)
LOG, ITEMS = "source.interactions", "source.items"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, lines: list[str], encoding: str = "utf-8", end: str = "\n") -> str:
    Path(name).write_bytes((end.join(lines) + end).encode(encoding))
    return name


def guessed(*paths: str) -> Config:
    """Return the configuration that the guesses make, read back from the file that init writes."""
    Path("out.yaml").write_text(conf_text(inspect_files(paths)), encoding="utf-8")
    return load_config("out.yaml").config


def events(form: str, n: int = 60) -> list[str]:
    return [
        form.format(user=i // 6 + 1, item=RANDOM.randint(1, 20), stars=RANDOM.randint(1, 5), time=978_300_760 + 97 * i)
        for i in range(n)
    ]


def test_movielens_as_recbole_has_it(folder):
    log = write(
        "ml.inter",
        ["user_id:token\titem_id:token\trating:float\ttimestamp:float", *events("{user}\t{item}\t{stars}\t{time}")],
    )
    titles = [f'{i}\t"Great" Escape, The {i}\t196{i % 9}\tWar {i % 3}' for i in range(1, 21)]
    items = write(
        "ml.item", ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq", *titles]
    )  # fmt: skip
    users = write("ml.user", ["user_id:token\tage:token\tgender:token", *(f"{i}\t{20 + i}\tM" for i in range(1, 11))])
    source = guessed(users, items, log).source
    assert (source.interactions.path, source.items.path) == (log, items)
    assert source.interactions.separator == source.items.separator == "\t"
    assert source.interactions.columns.model_dump() == {
        "user": "user_id:token",
        "item": "item_id:token",
        "time": "timestamp:float",
        "event_type": "",
        "value": "rating:float",
    }
    assert (source.items.columns.item, source.items.columns.title) == ("item_id:token", "movie_title:token_seq")
    assert source.items.columns.text == ("release_year:token", "class:token_seq")
    assert source.items.quote == ""  # text follows the closing quote: quotes mean nothing there
    assert source.interactions.min_value is None  # a threshold is for a person to set
    assert "# min_value: 4" in Path("out.yaml").read_text()


def test_files_without_names_of_columns(folder):
    log = write("ratings.dat", events("{user}::{item}::{stars}::{time}"))
    items = write(
        "movies.dat", [f"{i}::Fübar {i} (1995)::{'Drama|War' if i % 2 else 'Drama'}" for i in range(1, 21)], "latin-1"
    )
    source = guessed(items, log).source
    assert (source.interactions.separator, source.interactions.header, source.interactions.quote) == ("::", False, "")
    assert source.interactions.columns.model_dump() == {
        "user": "0",
        "item": "1",
        "time": "3",
        "event_type": "",
        "value": "2",
    }
    assert source.items.columns.model_dump(include={"item", "title", "text"}) == {
        "item": "0",
        "title": "1",
        "text": ("2",),
    }
    assert source.items.encoding == "cp1252"
    assert "check it" in Path("out.yaml").read_text()


def test_shop_events_get_weights_and_removals_are_left_out(folder):
    kinds = ["view", "cart", "purchase", "remove_from_cart"]
    rows = [f"2019-10-01 00:00:{i:02d} UTC,{kinds[i % 4]},{i % 9},x,{i % 5},s{i}" for i in range(60)]
    source = guessed(write("shop.csv", ["event_time,event_type,product_id,brand,user_id,user_session", *rows])).source
    log = source.interactions
    assert (log.columns.user, log.columns.item, log.columns.time) == ("user_id", "product_id", "event_time")
    assert log.columns.event_type == "event_type"
    assert log.event_weights == {"cart": 3.0, "purchase": 5.0, "view": 1.0}
    assert log.where == "event_type NOT IN ('remove_from_cart')"
    assert source.items.path == ""


def test_unknown_kinds_of_events_get_no_weights(folder):
    rows = [f"{i % 5},{i % 9},{'view' if i % 2 else 'zorp'}" for i in range(30)]
    path = write("log.csv", ["user,item,action", *rows])
    inspection = inspect_files([path])
    assert inspection.value(f"{LOG}.columns.event_type") == "action"
    assert inspection.value(f"{LOG}.event_weights") is None
    assert any("not all known" in note for note in inspection.notes)


def test_chinese_files(folder):
    log = write(
        "log.csv", ["用户ID,商品ID,时间,行为", *(f"{i % 5},{i % 9},{1511544070 + i},pv" for i in range(30))], "gbk"
    )
    items = write("items.csv", ["商品ID,标题,类别", *(f"{i},很好的商品第{i}个,服装{i % 3}" for i in range(9))], "gbk")
    source = guessed(log, items).source
    assert source.interactions.encoding == source.items.encoding == "gbk"
    assert (source.interactions.columns.user, source.interactions.columns.item) == ("用户ID", "商品ID")
    assert (source.items.columns.title, source.items.columns.text) == ("标题", ("类别",))


def test_json_lines_gzipped_with_two_times(folder):
    rows = [
        {
            "reviewerID": f"A{i % 7}",
            "asin": f"B{i % 9}",
            "overall": 4.0,
            "reviewTime": "01 28, 2014",
            "unixReviewTime": 1390867200 + i,
        }
        for i in range(40)
    ]
    with gzip.open("log.json.gz", "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))
    items = [
        {"asin": f"B{i}", "title": f"Thing {i}", "imUrl": f"http://x/{i}.jpg", "price": 3.5, "brand": f"b{i % 3}"}
        for i in range(9)
    ]
    write("meta.jsonl", [json.dumps(item) for item in items])
    source = guessed("log.json.gz", "meta.jsonl").source
    assert source.interactions.format == source.items.format == "jsonl"
    assert (source.interactions.columns.user, source.interactions.columns.time) == ("reviewerID", "unixReviewTime")
    assert source.items.columns.text == ("brand",)


def test_a_semicolon_export_with_times_that_cannot_be_read(folder):
    rows = [f"5{i};85{i % 9}A;WHITE HANGING;6;12/1/2010 8:26;2,55;17{i % 5};United Kingdom" for i in range(40)]
    heads = "InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country"
    inspection = inspect_files([write("retail.csv", [heads, *rows], "utf-8-sig", "\r\n")])
    assert inspection.log.separator == ";"
    assert inspection.log.columns[0] == "InvoiceNo"  # no byte order mark in it
    assert [inspection.value(f"{LOG}.columns.{name}") for name in ("user", "item", "time", "value")] == [
        "CustomerID",
        "StockCode",
        "",
        "Quantity",
    ]
    assert any("'InvoiceDate' has times such as '12/1/2010 8:26'" in note for note in inspection.notes)


def test_the_catalogues_id_is_the_column_that_shares_values_with_the_log(folder):
    log = write("log.csv", ["user_id,product_id", *(f"{i % 5},P{i % 9}" for i in range(40))])
    items = write("items.csv", ["id,reference,name", *(f"{900 + i},P{i},Red shoe {i}" for i in range(9))])
    assert guessed(log, items).source.items.columns.item == "reference"


def test_ids_that_never_meet_are_noted(folder):
    log = write("log.csv", ["user_id,product_id", *(f"{i % 5},P{i % 9}" for i in range(40))])
    items = write("items.csv", ["product_id,name", *(f"Q{i},Red shoe {i}" for i in range(9))])
    assert any("only 0% of the log's first item ids" in note for note in inspect_files([log, items]).notes)


def test_availability_and_positions(folder):
    log = write("log.csv", ["session_id,sku,position", *(f"{i // 5},{i % 9},{i % 5}" for i in range(40))])
    rows = [f"{i},Red shoe {i},{'true' if i % 2 else 'false'},2024-01-01,2025-01-01T00:00:00Z,abc{i}" for i in range(9)]
    items = write("items.csv", ["sku,name,in_stock,valid_from,valid_to,code", *rows])
    source = guessed(items, log).source
    assert (source.interactions.columns.user, source.interactions.columns.time) == ("session_id", "position")
    columns = source.items.columns
    assert (columns.is_available, columns.available_from, columns.available_until) == (
        "in_stock",
        "valid_from",
        "valid_to",
    )
    assert columns.text == ()  # codes are no words


def test_parquet_and_delta_folders(folder):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    deltalake = pytest.importorskip("deltalake")
    log = pa.table(
        {"userId": [1, 1, 2, 2, 3], "movieId": [7, 8, 7, 9, 9], "ts": [1_600_000_000_000 + i for i in range(5)]}
    )
    Path("log").mkdir()
    pq.write_table(log, "log/part-0.parquet")
    (Path("log") / "_SUCCESS").touch()
    deltalake.write_deltalake("items", pa.table({"movieId": [7, 8, 9], "title": ["Big One", "Small One", "Odd One"]}))
    source = guessed("log", "items").source
    assert (source.interactions.format, source.items.format) == ("parquet", "delta")
    assert (source.interactions.columns.user, source.interactions.columns.time) == ("userId", "ts")
    assert (source.items.columns.item, source.items.columns.title) == ("movieId", "title")


def test_what_cannot_be_guessed_is_said_and_left_to_fill_in(folder):
    path = write("odd.csv", ["foo,bar", *(f"{'abcde'[i % 5]},{i % 9}" for i in range(40))])
    inspection = inspect_files([path])
    message = missing_message(inspection, "out.yaml")
    assert "source.interactions.columns.user: no column of odd.csv could be told to be it" in message
    assert "found the columns foo, bar" in message
    assert "FILL-IN" in message
    assert guessed(path).source.interactions.columns.user == "FILL-IN"


def test_no_user_id_is_written_into_the_conf(folder):
    rows = [f"secret{i % 5}@example.org,{i % 9},{i}" for i in range(40)]
    inspection = inspect_files([write("log.csv", ["customer_id,item_id,foo", *rows])])
    assert "example.org" not in conf_text(inspection)


def test_names_that_would_break_yaml_are_quoted(folder):
    rows = [f"{i % 5},{i % 9},a b {i}" for i in range(40)]
    path = write("log: # a'b.csv", ["user id,item id: #1,note\u2028\x07", *rows])
    inspection = inspect_files([path])
    Path("out.yaml").write_text(conf_text(inspection), encoding="utf-8")
    source = load_config("out.yaml").config.source
    assert source.interactions.path == path
    assert source.interactions.columns.user == "user id"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b" \n\n", "a.csv is empty"),
        ("a.xlsx", b"PK\x03\x04", "an Excel workbook: save the sheet as CSV"),
        ("a.bin", b"ab\0\0cd\n", "zero bytes"),
        ("a.json", b'[{"user": 1}]', "one JSON array: expected one object a line"),
        ("a.json", b'{"user": 1}\n{"user": \n', "a.json, line 2: expected one JSON object a line"),
        ("a.parquet", b"PAR1 no it is not", "cannot be read as Parquet"),
        ("a.csv.gz", b"\x1f\x8b broken", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(folder, name, content, expected):
    Path(name).write_bytes(content)
    with pytest.raises(SourceError, match=expected):
        inspect_files([name])


def test_a_missing_file_an_empty_folder_and_one_named_twice(folder):
    with pytest.raises(SourceError, match=r"no file at none\.csv"):
        inspect_files(["none.csv"])
    Path("empty").mkdir()
    with pytest.raises(SourceError, match="has no files in it"):
        inspect_files(["empty"])
    write("log.csv", ["user,item", "1,2"])
    with pytest.raises(ConfigError, match="named twice"):
        inspect_files(["log.csv", "log.csv"])


def test_only_the_head_of_a_file_is_read(folder):
    line = "u1,i1," + "x" * 901
    path = write("log.csv", ["user,item,note", *[line] * 3_000, '"never closed'])
    head = inspect_files([path]).log
    assert not head.is_whole
    assert Path(path).stat().st_size > 2 * HEAD_BYTES
    assert {row[2] for row in head.rows} == {"x" * 901}  # the line that the end of the head cuts is left out


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        ("plain", "ascii", "utf-8"),
        ("Amélie; Smörgåsbord; 很好", "utf-8", "utf-8"),
        ("Amélie", "utf-8-sig", "utf-8-sig"),
        ("Amélie; Smörgåsbord; “quoted”", "cp1252", "cp1252"),
        ("很好的中文商品名称", "gbk", "gbk"),
        ("user,item", "utf-16", "utf-16"),
    ],
)
def test_encodings(text, encoding, found):
    assert decode_head(text.encode(encoding), True)[:2] == (text, found)


def test_a_character_cut_by_the_end_of_the_head_is_no_wrong_encoding():
    assert decode_head("很好".encode()[:-1], False)[:2] == ("很", "utf-8")
    assert decode_head("很好".encode()[:-1], True)[1] != "utf-8"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1260759108", "1260759109"], "epoch seconds"),
        (["1260759108000"], "epoch milliseconds"),
        (["1260759108000000"], "epoch microseconds"),
        (["2024-05-31T18:00:00Z", "2024-05-31 18:00:00+02:00", "2024-5-1"], "ISO text"),
        (["0", "1", "2"], "positions"),
        (["31.05.2024"], ""),
        (["0.5"], ""),
        ([], ""),
    ],
)
def test_kinds_of_times(values, kind):
    assert time_kind(values) == kind


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("user_id:token", "userid"),
        ("User ID", "userid"),
        ("unixReviewTime", "unixreviewtime"),
        ("movie_title:token_seq", "movietitle"),
    ],
)
def test_names_are_compared_without_their_dress(name, plain):
    assert plain_name(name) == plain


def test_the_language_model_is_offered_and_its_lines_are_a_right_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("user_id,item_id,timestamp\nu1,i1,1600000000\nu2,i2,1600000100\n", encoding="utf-8")
    rows = "".join(f"i{n},Blue pen {n},{kind} for writing\n" for n, kind in enumerate(["pens", "inks", "nibs"] * 5))
    Path("items.csv").write_text(f"item_id,title,genres\n{rows}", encoding="utf-8")
    text = conf_text(inspect_files(["log.csv", "items.csv"]))
    block = text.split("a prompt may show.\n")[1]
    Path("out.yaml").write_text(text.replace(block, block.replace("# ", "")), encoding="utf-8")
    config = load_config("out.yaml").config
    assert config.describe.enabled
    assert config.describe.keyword_fields == config.source.items.columns.text == ("genres",)
    assert config.embed.model == "models/all-minilm-l6-v2"
