"""The strict reader of delimited and JSON-lines files, without Spark."""

import bz2
import gzip
import io

import pytest

from lt_spark.core.errors import SourceError
from lt_spark.prepare.strict_csv import (
    UNREADABLE,
    FileLayout,
    Record,
    csv_records,
    find_columns,
    json_records,
    physical_lines,
    record_batches,
    split_quoted,
)


def layout(columns: str = "a,b", **changes: object) -> FileLayout:
    settings = {"format": "csv", "encoding": "utf-8", "separator": ",", "quote": '"', "header": True} | changes
    return FileLayout(**settings, columns=tuple(columns.split(",")))  # type: ignore[arg-type]


def read(data: bytes, how: FileLayout) -> list[Record]:
    return list(csv_records(io.BytesIO(data), how, "log.csv"))


def fields(data: bytes, how: FileLayout) -> list[list[str | None]]:
    return [list(record.fields) for record in read(data, how)]


def test_byte_order_mark_and_crlf() -> None:
    assert fields(b"\xef\xbb\xbfa,b\r\n1,x\r\n\r\n2,y", layout()) == [["1", "x"], ["2", "y"]]


def test_records_are_numbered_with_the_header() -> None:
    assert [record.number for record in read(b"a,b\n1,x\n2,y\n", layout())] == [2, 3]
    assert [record.number for record in read(b"1,x\n2,y\n", layout("0,1", header=False))] == [1, 2]


def test_values_are_kept_byte_for_byte() -> None:
    assert fields(b"a,b\n0012, NA \n12E34,null\n", layout()) == [["0012", " NA "], ["12E34", "null"]]


def test_repeated_header_is_an_error_record() -> None:
    records = read(b"a,b\n1,x\na,b\n2,y\n", layout())
    assert [record.error for record in records] == [None, "repeated header", None]


def test_separator_of_several_characters() -> None:
    how = layout("0,1,2", header=False, separator="::")
    assert fields(b'1::Toy: Story::x\n2::"a::b"::y\n', how) == [["1", "Toy: Story", "x"], ["2", "a::b", "y"]]


@pytest.mark.parametrize(("encoding", "text"), [("latin-1", "Amélie"), ("cp1252", "“€”"), ("gbk", "红楼梦")])
def test_configured_encoding(encoding: str, text: str) -> None:
    assert fields(f"a,b\n1,{text}\n".encode(encoding), layout(encoding=encoding)) == [["1", text]]


@pytest.mark.parametrize("chunk", [0, (1 << 20) + 7])
def test_invalid_byte_names_file_and_record(chunk: int) -> None:
    good = b"1,x\n" * (chunk // 4)
    with pytest.raises(SourceError, match=rf"log.csv, record {chunk // 4 + 3}: byte 0xe9 is not utf-8 text"):
        read(b"a,b\n" + good + "1,x\n2,Amélie\n".encode("latin-1"), layout())


def test_utf8_read_as_gbk_or_cut_off_is_refused() -> None:
    with pytest.raises(SourceError, match=r"record 2: .*Set source...encoding"):
        read("a,b\n1,红".encode()[:-1], layout())


def test_character_across_the_chunk_border() -> None:
    filler = "x" * ((1 << 20) - 5)
    assert fields(f"a,b\n{filler},é\n".encode(), layout()) == [[filler, "é"]]


def test_line_end_across_the_chunk_border() -> None:
    data = b"a,b\r\n" + b"1," + b"x" * ((1 << 20) - 8) + b"\r\n2,y\r\n"
    assert data[(1 << 20) - 1 : (1 << 20) + 1] == b"\r\n"
    assert [record.number for record in read(data, layout())] == [2, 3]


def test_quoted_line_breaks_and_doubled_quotes() -> None:
    data = b'a,b\n1,"two\r\nlines, ""quoted"""\n2,y\n'
    assert fields(data, layout()) == [["1", 'two\r\nlines, "quoted"'], ["2", "y"]]


@pytest.mark.parametrize("bad", ['1,"open', '1,"closed" text', '"'])
def test_unbalanced_quotes_cost_one_line(bad: str) -> None:
    records = read(f'a,b\n{bad}\n2,y\n3,"z"\n'.encode(), layout())
    assert [record.error for record in records] == ["unbalanced quotes", None, None]
    assert [list(record.fields) for record in records[1:]] == [["2", "y"], ["3", "z"]]


def test_open_quote_at_the_end_of_a_long_file_loses_nothing() -> None:
    data = b'a,b\n1,"open\n' + b"2,y\n" * 5000
    records = read(data, layout())
    assert [record.error for record in records[:2]] == ["unbalanced quotes", None]
    assert len(records) == 5001


def test_quotes_mean_nothing_without_a_quote_character() -> None:
    assert fields(b'a,b\n1,"x\n', layout(quote="")) == [["1", '"x']]


def test_too_few_and_too_many_fields() -> None:
    records = read(b"a,b\n1\n1,2,3\n", layout())
    assert [record.error for record in records] == [
        "too few fields: 1 where the header has 2",
        "too many fields: 3 where the header has 2",
    ]
    assert [list(record.fields) for record in records] == [["1", None], ["1", "2"]]


def test_part_with_another_header_is_refused() -> None:
    with pytest.raises(SourceError, match="header differs"):
        read(b"b,a\n1,x\n", layout())


def test_unicode_line_separators_end_no_line() -> None:
    assert fields("a,b\n1,x\u2028y\x0bz\x85\n".encode(), layout()) == [["1", "x\u2028y\x0bz\x85"]]


def test_split_quoted_open() -> None:
    assert split_quoted('1,"open', ",", '"') is None
    assert split_quoted('"",""', ",", '"') == ["", ""]


def test_lines_keep_their_ends() -> None:
    assert list(physical_lines(io.BytesIO(b"a\r\nb\rc\n"), "utf-8")) == ["a\r\n", "b\r", "c\n"]


def test_find_columns() -> None:
    assert find_columns(io.BytesIO(b"a,,c\n"), layout(), "x.csv") == ("a", "1", "c")
    assert find_columns(io.BytesIO(b"7,8\n"), layout(header=False), "x.csv") == ("0", "1")


def test_find_columns_refuses_doubles_and_nothing() -> None:
    with pytest.raises(SourceError, match="must differ"):
        find_columns(io.BytesIO(b"id,ID\n"), layout(), "x.csv")
    with pytest.raises(SourceError, match="empty"):
        find_columns(io.BytesIO(b"\n\n"), layout(), "x.csv")


def test_json_lines_keep_numbers_as_written() -> None:
    data = b'{"a": 12345678901234567890, "b": -0}\n\n[1]\n{"a": true, "b": 1.50, "c": 1}\nbad\n{"a": {"x": "y"}}\n'
    records = list(json_records(io.BytesIO(data), layout(format="jsonl"), "x.jsonl"))
    assert [list(record.fields) for record in records] == [
        ["12345678901234567890", "-0"],
        [None, None],
        ["true", "1.50"],
        [None, None],
        ['{"x": "y"}', None],
    ]
    assert [record.error is None for record in records] == [True, False, True, False, True]
    assert find_columns(io.BytesIO(data), layout(format="jsonl"), "x.jsonl") == ("a", "b", "c")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, bytes])
def test_batches_unpack(pack: object) -> None:
    data = pack(b"a,b\n1,x\n")  # type: ignore[operator]
    assert list(record_batches(lambda: io.BytesIO(data), layout(), "log.csv")) == [[("1", "x", "log.csv", 2, None)]]


def test_damaged_gzip_becomes_one_row() -> None:
    data = gzip.compress(b"a,b\n" + bytes(str(list(range(99999))), "ascii"))[:-100]
    (rows,) = record_batches(lambda: io.BytesIO(data), layout(), "log.csv.gz")
    assert str(rows[-1][4]).startswith(UNREADABLE + "log.csv.gz: damaged compressed file")


def test_lost_file_and_wrong_encoding_become_one_row() -> None:
    def lost() -> io.BytesIO:
        raise FileNotFoundError

    (rows,) = record_batches(lost, layout(), "log.csv")
    assert "not found by the worker" in str(rows[0][4])
    (rows,) = record_batches(lambda: io.BytesIO(b"a,b\n1,x\n2,\xff\n"), layout(), "log.csv")
    assert rows[0] == ("1", "x", "log.csv", 2, None)
    assert rows[1][:4] == (None, None, "log.csv", 3) and "record 3" in str(rows[1][4])


def test_long_files_come_in_batches() -> None:
    data = b"a,b\n" + b"1,x\n" * 120_000
    sizes = [len(rows) for rows in record_batches(lambda: io.BytesIO(data), layout(), "log.csv")]
    assert sizes == [50_000, 50_000, 20_000]


def test_half_a_surrogate_pair_costs_its_own_record_only() -> None:
    lines = [r'{"t": "cut \ud83d"}', r'{"t": "whole \ud83d\ude00"}', '{"t": "plain"}']
    data = "\n".join(lines).encode()
    found = list(json_records(io.BytesIO(data), layout("t", format="jsonl"), "x.jsonl"))
    assert [(record.fields, record.error) for record in found] == [
        ([None], "not a JSON object"),
        (["whole \U0001f600"], None),
        (["plain"], None),
    ]
