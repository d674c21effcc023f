"""The confs of the domains: each loads, says at its top what it is for, and gives the reason of each key."""

import csv
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from lt_spark import cli
from lt_spark.blend_stage import check_config
from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.enrich.prompts import ItemText, item_prompt, load_pack
from lt_spark.variants import variant_configs
from tests.domains.generate import WRITERS
from tests.domains.runs import DOMAINS, NAMES, domain_config

DOCUMENT = DOMAINS.parents[1] / "docs" / "domains.md"


def set_keys(content: Any, prefix: str = "") -> dict[str, Any]:
    """The keys that a conf sets, with their values."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in ("source.interactions.event_weights", "ledger.variants"):
            found |= set_keys(value, f"{name}.")
        else:
            found[name] = value
    return found


def text_of(name: str) -> str:
    return (DOMAINS / f"{name}.yaml").read_text(encoding="utf-8")


def own_keys(name: str) -> dict[str, Any]:
    content = yaml.safe_load(text_of(name))
    assert content.pop("extends") == "../base.yaml"
    return set_keys(content)


def test_there_is_a_conf_for_each_domain_that_is_tested() -> None:
    assert sorted(path.stem for path in DOMAINS.iterdir()) == NAMES
    assert {domain_config(name).describe.pack for name in NAMES} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_conf_differs_from_the_defaults_by_what_it_sets(name: str) -> None:
    loaded, default = load_config(str(DOMAINS / f"{name}.yaml")), load_config(None).values()
    differs = {key for key, value in loaded.values().items() if value != default[key]}
    # ecommerce is the default pack: said all the same
    assert differs == set(own_keys(name)) - ({"describe.pack"} if name == "ecommerce" else set())


@pytest.mark.parametrize("name", NAMES)
def test_it_says_at_its_top_when_to_use_it_and_what_the_tables_look_like(name: str) -> None:
    top = text_of(name).split("\nextends:")[0]
    assert all(line.startswith("#") for line in top.splitlines())
    for told in ("# Use it when:", "# The log, one row", "# The catalogue, one row", "# What differs from base.yaml"):
        assert told in top
    assert f"extends: conf/domains/{name}.yaml" in top


@pytest.mark.parametrize("name", NAMES)
def test_every_key_has_its_reason_above(name: str) -> None:
    n_keys = 0
    for above, line in pairwise(text_of(name).split("\nextends:")[1].splitlines()):
        if re.match(r"\s+\w+:\s+\S", line):  # a key with a value
            n_keys += 1
            assert above.strip().startswith("# "), f"no reason above: {line}"
    keys = own_keys(name)
    assert n_keys == len(keys) - ("ledger.variants" in keys) + len(keys.get("ledger.variants", ()))


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_told_at_the_top_are_those_of_the_data_and_those_that_the_conf_reads(
    name: str, tmp_path: Path
) -> None:
    top = text_of(name).split("\nextends:")[0]
    generated, source = WRITERS[name](tmp_path), domain_config(name).source
    headers = {}
    for part, keys in generated.sources.items():
        with Path(keys["path"]).open(encoding="utf-8", newline="") as file:
            headers[part] = next(csv.reader(file))
        for column in headers[part]:
            assert re.search(rf"\b{column}\b", top), f"{part}: {column} is not told of"
    log, items = source.interactions.columns, source.items.columns
    read = {log.user, log.item, log.time, log.event_type, log.value} - {""}
    assert read == set(headers["interactions"])
    read = {items.item, items.title, *items.text, items.available_from, items.available_until} - {""}
    assert read == set(headers["items"])


@pytest.mark.parametrize("name", NAMES)
def test_what_the_conf_asks_for_can_be_done(name: str) -> None:
    config = domain_config(name)
    check_config(config)  # what the cap is about is an attribute
    named = {*config.describe.keyword_fields, *config.describe.input_fields, config.describe.description_field}
    assert named - {""} <= set(config.source.items.columns.text)
    assert set(config.ledger.variants) <= set(variant_configs(config))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_speak_of_the_domain(name: str, tmp_path: Path) -> None:
    section = domain_config(name).describe
    with Path(WRITERS[name](tmp_path).sources["items"]["path"]).open(encoding="utf-8", newline="") as file:
        first, second, *_ = csv.DictReader(file)
    example, asked = (
        ItemText(row["title"], tuple((key, row[key]) for key in domain_config(name).source.items.columns.text))
        for row in (first, second)
    )
    prompt = item_prompt(load_pack(section.pack), section, asked, [example])
    about = {"ecommerce": "shop", "video": "film", "music": "music", "social": "network", "content": "text"}
    assert about[name] in prompt.shared
    label = "Post" if name == "social" else "Title"
    assert f"{label}: {second['title']}\n" in prompt.own
    keywords = {
        "ecommerce": "küche, töpfe",
        "video": "drama, liebe",
        "music": "blues",
        "social": "suppe, kochen",
        "content": "politik, wahl, tag",
    }
    assert f"Keywords: {keywords[name]}\n" in prompt.own


@pytest.mark.parametrize("name", ["content"])
def test_another_file_builds_on_it(name: str, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        f"extends: {DOMAINS / name}.yaml\nsource: {{interactions: {{path: log.csv, columns: {{user: who}}}}}}\n",
        encoding="utf-8",
    )
    config = load_config(str(own)).config
    assert (config.source.interactions.path, config.source.interactions.columns.user) == ("log.csv", "who")
    assert config.describe.pack == name
    shown = CliRunner().invoke(cli.app, ["config", "show", "-c", str(own)], env={"COLUMNS": "300"})
    assert shown.exit_code == 0
    assert re.search(rf"rerank\.cap_field\s+'{config.rerank.cap_field}'\s.*{name}\.yaml", shown.stdout)


ALIKE = {
    "video": ["source.interactions.columns.value=", "source.interactions.min_value=null", "rerank.cap=null"],
    "ecommerce": ["source.interactions.columns.event_type=", "source.interactions.event_weights={}", "rerank.cap=null"],
}
"""What makes a conf fit for ratings, or purchases alone, without its cap."""


@pytest.mark.parametrize("name", ALIKE)
def test_without_its_columns_and_its_cap_a_conf_is_the_default_one(name: str) -> None:
    text = "source.items.columns.text=[genres]"
    found = load_config(str(DOMAINS / f"{name}.yaml"), [*ALIKE[name], text])
    default = load_config(None, [text]).values()
    differs = {key for key, value in found.values().items() if value != default[key]}
    # the prompts of a stage that is off, and the field of a cap that is off
    assert not found.config.describe.enabled
    assert {key for key in differs if not key.startswith("describe.")} == {"rerank.cap_field"}


@pytest.mark.parametrize("name", ["ecommerce", "music", "social"])
def test_what_init_writes_builds_on_it_by_one_line(name: str, tmp_path: Path) -> None:
    sources, own = WRITERS[name](tmp_path).sources, tmp_path / "lt-spark.yaml"
    files = [sources["interactions"]["path"], sources["items"]["path"]]
    assert CliRunner().invoke(cli.app, ["init", *files, "-o", str(own), "--no-encoder"]).exit_code == 0
    own.write_text(f"extends: {DOMAINS / name}.yaml\n{own.read_text(encoding='utf-8')}", encoding="utf-8")
    config, domain = load_config(str(own)).config, domain_config(name)
    check_config(config)
    assert config.source.items.columns == domain.source.items.columns
    assert config.source.interactions.columns == domain.source.interactions.columns
    assert config.source.interactions.event_weights == domain.source.interactions.event_weights
    assert (config.describe, config.rerank) == (domain.describe, domain.rerank)


def test_domains_differ_where_the_document_says_so() -> None:
    """The table of docs/domains.md names every key of every conf, and no other."""
    rows = re.findall(r"^\| `([a-z_.]+)` \|(.*)\|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    told = {key: [cell.strip() for cell in re.split(r"(?<!\\)\|", cells)] for key, cells in rows}
    order = ("ecommerce", "video", "music", "social", "content")
    expected: dict[str, list[str]] = {}
    for place, name in enumerate(order):
        for key, value in own_keys(name).items():
            expected.setdefault(key, ["-"] * len(order))[place] = _written(value)
    assert told == expected


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(key if isinstance(each, dict) else f"{key} {each}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "yes" if value is True else str(value).strip().replace("|", "\\|")


def test_no_domain_changes_what_the_defaults_are() -> None:
    assert load_config(str(DOMAINS.parent / "base.yaml")).config == Config()
