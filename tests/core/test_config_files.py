"""Configuration files: what is read, what wins, and what a mistake is told."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from lt_spark.core.config import Config
from lt_spark.core.config_files import config_hash, leaf_keys, load_config
from lt_spark.core.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"


def write(folder: Path, text: str, name: str = "conf.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def refusal(path: str | None, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value)


def test_without_a_file_every_value_is_the_default():
    loaded = load_config(None)
    assert loaded.config == Config()
    assert set(loaded.sources.values()) == {"default"}
    assert loaded.values()["source.interactions.columns.user"] == "user_id"


def test_base_yaml_lists_every_key_with_its_default():
    loaded = load_config(str(CONF / "base.yaml"))
    assert loaded.config == Config()
    assert [key for key, source in loaded.sources.items() if source == "default"] == []


def test_base_yaml_has_a_comment_above_every_key():
    lines = (CONF / "base.yaml").read_text(encoding="utf-8").splitlines()
    n_keys = 0
    for above, line in pairwise(lines):
        if re.match(r"\s+\w+:\s+\S", line):  # a key with a value
            n_keys += 1
            assert above.strip().startswith("# "), f"no comment above: {line}"
    assert n_keys == len(list(leaf_keys(Config)))


def test_demo_yaml_reads_the_tab_separated_files_of_movielens():
    source = load_config(str(CONF / "demo.yaml")).config.source
    assert source.interactions.separator == source.items.separator == "\t"
    assert source.interactions.quote == ""
    assert source.interactions.columns.time == "timestamp:float"
    assert source.items.columns.text == ("release_year:token", "class:token_seq")


def test_the_later_source_wins_and_is_named(tmp_path):
    base = write(tmp_path, "als: {rank: 8, max_iter: 5}\nneighbours: {decay: 0.5}\n", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nals:\n  rank: 16\nsource:\n")
    loaded = load_config(path, ["als.max_iter=7", "source.interactions.path=a b.csv"])
    assert (loaded.config.als.rank, loaded.config.als.max_iter, loaded.config.neighbours.decay) == (16, 7, 0.5)
    assert loaded.config.source.interactions.path == "a b.csv"
    assert loaded.sources["als.rank"] == path
    assert loaded.sources["als.max_iter"] == loaded.sources["source.interactions.path"] == "--set"
    assert loaded.sources["neighbours.decay"] == base
    assert loaded.sources["als.alpha"] == "default"


def test_a_mapping_that_is_a_value_is_replaced_whole(tmp_path):
    write(tmp_path, "source: {interactions: {event_weights: {view: 1, buy: 5}}}", "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nsource: {interactions: {event_weights: {7: 2}}}")
    assert load_config(path).config.source.interactions.event_weights == {"7": 2.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("# only a comment", "is empty"),
        ("- a\n- b", "expected sections such as 'source:', found a list"),
        ("just words", "found a text"),
        ("als: {rank: 1", "line 1, column 14: not readable as YAML"),
        ("als:\n\trank: 1", "line 2, column 1: not readable as YAML"),
        ("als: {rank: 1}\ncore: {seed: 1}\nals: {rank: 2}", "line 3, column 1: not readable as YAML: the key 'als'"),
        ("als: 5", "als is a section: expected keys below it, such as rank; found 5"),
        ("als: {rnak: 5}", "no such key: als.rnak. Did you mean 'rank'?"),
        ("alss: {rank: 5}", "no such key: alss. Did you mean 'als"),
        ("als: {seed: 5}", "Did you mean 'core.seed'?"),
        ("source: {items: {columns: {titel: x}}}", "no such key: source.items.columns.titel. Did you mean 'title'?"),
        ("als: {rank: many}", 'als.rank: expected integer; found "many"'),
        ("als: {rank: true}", "als.rank: expected integer; found true"),
        ("als: {rank: 0}", "als.rank: expected greater than or equal to 1; found 0"),
        ("rebalance: {strength: .nan}", "rebalance.strength: expected"),
        ("split: {method: random}", "split.method: expected 'leave_last_out', 'time' or 'cold_items'; found \"r"),
        ("source: {items: {columns: {item: 0}}}", "expected string; found 0. Put it in quotes"),
        ("source: {interactions: {event_weights: {on: 1}}}", "the key 'on' is not text here: put it in quotes"),
        ("segment: {head: 0.9}", "segment.head must be below segment.mid"),
        ("extends: [a, b]", "'extends' expects one file name, found a list"),
        ("extends: none.yaml", "no configuration file at"),
        ("extends: conf.yaml", "extends itself"),
    ],
)
def test_a_mistake_names_file_key_expected_and_found(tmp_path, text, expected):
    message = refusal(write(tmp_path, text))
    assert expected in message
    assert str(tmp_path) in message


def test_a_mistake_in_an_extended_file_names_that_file(tmp_path):
    base = write(tmp_path, "als: {rank: 0}", "base.yaml")
    assert refusal(write(tmp_path, "extends: base.yaml\nals: {alpha: 1}")).startswith(f"{base}: als.rank")


def test_all_mistakes_are_told_at_once_the_misspelt_key_first(tmp_path):
    first, second = refusal(write(tmp_path, "als: {rank: 0}\nsplitt: {}")).splitlines()
    assert "splitt" in first
    assert "als.rank" in second


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    assert "lt-spark init" in refusal(str(tmp_path / "none.yaml"))
    assert "cannot be read" in refusal(str(tmp_path))
    (tmp_path / "latin.yaml").write_bytes("# é".encode("latin-1"))
    assert "Save it as UTF-8" in refusal(str(tmp_path / "latin.yaml"))


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfcore: {seed: 7}")
    assert load_config(str(tmp_path / "bom.yaml")).config.core.seed == 7


def test_yaml_builds_no_objects(tmp_path):
    assert "not readable as YAML" in refusal(write(tmp_path, "core: !!python/object/apply:os.getcwd []"))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("als.rank", "expected section.key=value"),
        ("rank=5", "expected section.key=value"),
        ("als..rank=5", "expected section.key=value"),
        ("al.rank=5", "no such key: al. Did you mean 'als'?"),
        ("als.rnak=5", "--set: no such key: als.rnak. Did you mean 'rank'?"),
        ("als.rank.x=5", "als.rank has no keys below it"),
        ("evaluate.ks=[1", "not readable as YAML"),
    ],
)
def test_a_wrong_setting_of_the_command_line(override, expected):
    assert expected in refusal(None, override)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("evaluate.ks=[5, 10]", (5, 10)),
        ("rebalance.beta=9e-1", 0.9),
        ("als.rank=null", None),
        ("source.items.columns.title=", ""),
        ("source.interactions.where=country = 'AT'", "country = 'AT'"),
        ('source.interactions.separator="\\t"', "\t"),
    ],
)
def test_a_setting_of_the_command_line_is_yaml(override, expected):
    assert load_config(None, [override]).values()[override.split("=")[0]] == expected


def test_the_hash_depends_on_the_named_sections_alone():
    plain, other = Config(), load_config(None, ["als.rank=3"]).config
    assert config_hash(plain, ["als", "split"]) == config_hash(plain, ["split", "als"])
    assert config_hash(plain, ["als"]) != config_hash(other, ["als"])
    assert config_hash(plain, ["split"]) == config_hash(other, ["split"])
    with pytest.raises(ConfigError, match="Did you mean 'split'"):
        config_hash(plain, ["splitt"])


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ('["als", "neighbors"]', "unknown model 'neighbors'.*Did you mean 'neighbours'"),
        ("[]", "expected at least one model"),
        ('["als", "als"]', "none twice"),
    ],
)
def test_models_of_the_blend_are_checked(models: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"blend.models={models}"])


@pytest.mark.parametrize("key", ["tables.root", "files.root", "source.items.path", "language_model.base_url"])
def test_secrets_in_a_uri_are_refused_and_not_repeated(key):
    name = key.rsplit(".", 1)[1]
    with pytest.raises(ConfigError, match=f"--set: {name} holds a URI with a name and a secret") as error:
        load_config(None, [f"{key}=s3a://AKIA:se/cr+et@bucket/folder", "core.seed=7"])
    assert "AKIA" not in str(error.value) and "cr+et" not in str(error.value)


def test_a_container_before_the_at_is_no_secret():
    root = "abfss://container@account.dfs.core.windows.net/folder"
    assert load_config(None, [f"tables.root={root}"]).config.tables.root == root
    root = "hdfs://host:8020/folder@home"
    assert load_config(None, [f"tables.root={root}"]).config.tables.root == root
