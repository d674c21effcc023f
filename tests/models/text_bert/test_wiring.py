"""When the stage is on, what its key and the keys of its readers depend on, what a conf must have."""

import pkgutil
from typing import Any, cast

import pytest

from lt_spark import enrich_stages as es
from lt_spark import text_bert_stage as ts
from lt_spark.bert_stage import embeddings_table
from lt_spark.core import tables as t
from lt_spark.core.code import code_of_stage, imports_of
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError
from lt_spark.models import text_bert
from lt_spark.pipeline import STAGES, tables_read

STAGE = {stage.name: stage for stage in STAGES}
TABLES = {"plain": t.ITEM_EMBEDDINGS, "enriched": t.ITEM_EMBEDDINGS_ENRICHED, "tuned": t.ITEM_EMBEDDINGS_TUNED}


def conf(*models: str, embeddings: str = "enriched", **others: Any) -> Config:
    given = {"blend": {"models": models}, "models": {"embeddings": embeddings}, "embed": {"model": "encoder"}}
    return Config.model_validate(given | others)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(), False),
        (conf("als", "text_bert"), True),
        (conf("als", "bert"), False),
        (conf("als", "bert", embeddings="tuned"), True),
        (conf("als", embeddings="tuned"), True),
        (conf("neighbours", embeddings="tuned"), False),  # nothing reads the vectors
    ],
)
def test_on_where_something_uses_it(config: Config, expected: bool) -> None:
    assert STAGE["text_bert"].is_on(config) is expected
    ts.check_config(config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (conf("text_bert", embed={}), "blend.models names text_bert, and embed.model is empty"),
        (conf("bert", embeddings="tuned", embed={}), "models.embeddings is tuned, and embed.model is empty"),
        (conf("text_bert", embed={"vectors_path": "own.parquet"}), "expected a sentence encoder"),
    ],
)
def test_without_an_encoder_nothing_is_taught(config: Config, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ts.check_config(config)


def test_adapters_need_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ts.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="peft not installed, and text_bert.method lora needs it"):
        ts.check_installed(conf("text_bert"), {"text_bert"})
    ts.check_installed(conf("text_bert"), {"bert"})
    ts.check_installed(conf("text_bert", text_bert={"method": "full"}), {"text_bert"})


@pytest.mark.parametrize("name", ["tune_bert", "bert"])
@pytest.mark.parametrize("embeddings", TABLES)
def test_only_the_chosen_vectors_count(name: str, embeddings: str) -> None:
    config = conf("bert", embeddings=embeddings)
    read = tables_read(STAGE[name], "valid", config)
    assert [each for each in read if each[0] in TABLES.values()] == [(TABLES[embeddings], "valid")]
    assert embeddings_table(config) is TABLES[embeddings]


def test_other_stages_read_all_that_they_name() -> None:
    for name in ("describe", "embed_enriched", "context", "text_bert"):
        stage, read = (
            STAGE[name],
            tables_read(STAGE[name], "live", conf("bert", embeddings="tuned", context={"enabled": True})),
        )
        assert {table for table, fold in read if fold == "live"} == set(stage.reads)


def test_another_encoder_is_another_key(tiny: str) -> None:
    nothing = cast(Any, None)
    config = conf("text_bert", embed={"model": tiny})
    assert es.outside(nothing, config, nothing, "text_bert") == es.outside(nothing, config, nothing, "embed") != [""]
    assert es.outside(nothing, conf("text_bert", embed={}), nothing, "text_bert") == []


def test_all_modules_of_the_model_are_in_the_key() -> None:
    found = {each for name in code_of_stage(STAGE["text_bert"].run)[1] for each in imports_of(name)}
    own = {f"{text_bert.__name__}.{info.name}" for info in pkgutil.iter_modules(text_bert.__path__)}
    assert len(own) > 5 and own <= found and "lt_spark.enrich.embed" in found
