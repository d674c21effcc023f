"""The ledger's variants: what each changes, where it lies, and which of them produce may use."""

import re
from pathlib import Path

import pytest

from lt_spark import experiments
from lt_spark.core.config import Config, LedgerConfig
from lt_spark.core.config_files import load_config
from lt_spark.core.errors import ConfigError
from lt_spark.pipeline import STAGES
from lt_spark.variants import variant_configs

CONF = Path(__file__).parents[1] / "conf"
FACTORS = ["both", "enriched", "plain", "rebalanced"]
OF_MODELS = ["without_als", "without_neighbours", "without_semantic", "without_lexical", "without_bert"]


def changed(config, **sections):
    """The configuration with some keys of some sections set."""
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=keys) for name, keys in sections.items()}
    )


def without_text():
    """The default configuration without any model that reads text."""
    return changed(Config(), blend={"models": ("als", "neighbours", "bert")})


def test_the_default_has_every_experiment():
    variants = variant_configs(Config())
    assert list(variants) == ["both", *OF_MODELS, "without_popularity", *FACTORS[1:], "noise", "disturbed"]
    assert [name for name, made in variants.items() if made.is_choice] == FACTORS
    assert [made.name for made in variants.values()] == list(variants)


def test_the_factors_differ_in_weights_and_text_only():
    config = changed(Config(), rebalance={"strength": 0.7}, tables={"root": "here/"})
    variants = {name: made.config for name, made in variant_configs(config).items()}
    for name in FACTORS:
        has_text, has_weights = name in ("enriched", "both"), name in ("rebalanced", "both")
        made = variants[name]
        assert made.tables.root == f"here/ledger/{name}"
        assert made.rebalance.method == ("inverse_power" if has_weights else "none")
        assert (made.als.use_text, made.als.use_pseudo_events) == (has_text, has_text)
        assert (made.bert.use_text, made.bert.use_pseudo_events) == (has_text, has_text)
        assert ({"semantic", "lexical"} <= set(made.blend.models)) is has_text
        assert {"als", "neighbours", "bert", "popularity"} <= set(made.blend.models)
        same = {
            "tables": {"root": config.tables.root},
            "rebalance": {"method": config.rebalance.method},
            "als": {"use_text": True, "use_pseudo_events": True},
            "bert": {"use_text": True, "use_pseudo_events": True},
            "blend": {"models": config.blend.models},
        }
        assert changed(made, **same) == config
    assert changed(variants["both"], tables={"root": config.tables.root}) == config


def test_a_conf_without_weights_is_itself_the_enriched_one():
    variants = variant_configs(changed(Config(), rebalance={"method": "none"}))
    assert [name for name, made in variants.items() if made.is_choice] == ["enriched", "both", "plain", "rebalanced"]
    assert list(variants)[0] == "enriched"
    assert variants["both"].config.rebalance.method == variants["rebalanced"].config.rebalance.method == "inverse_power"


def test_a_conf_without_text_has_no_variant_of_text():
    variants = variant_configs(without_text())
    left_out = [f"without_{model}" for model in ("als", "neighbours", "bert")]
    assert list(variants) == ["rebalanced", *left_out, "plain", "disturbed"]
    unweighed = variant_configs(changed(without_text(), rebalance={"method": "none"}))
    assert list(unweighed) == ["plain", *left_out, "rebalanced", "disturbed"]
    with_vectors = variant_configs(changed(without_text(), embed={"model": "somewhere"}))
    assert {"both", "enriched", "noise"} < set(with_vectors)
    deaf = changed(without_text(), embed={"model": "somewhere"}, als={"use_text": False}, bert={"use_text": False})
    assert list(variant_configs(deaf)) == list(variants)


def test_one_model_alone_is_not_left_out():
    variants = variant_configs(changed(Config(), blend={"models": ("als",)}))
    assert not [name for name in variants if name.startswith("without_")]
    only_words = variant_configs(changed(Config(), blend={"models": ("lexical",)}))
    assert only_words["plain"].config.blend.models == ("als_plain",)


def test_without_a_model_is_the_same_blend_of_the_others():
    config = Config()
    for model in config.blend.models:
        made = variant_configs(config)[f"without_{model}"]
        assert made.config.blend.models == tuple(name for name in config.blend.models if name != model)
        assert not made.is_choice
        same = changed(made.config, blend={"models": config.blend.models}, tables={"root": config.tables.root})
        assert same == config


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({}, []),
        ({"describe": {"enabled": True}}, ["embeddings_plain"]),
        ({"describe": {"enabled": True}, "models": {"embeddings": "plain"}}, ["embeddings_enriched"]),
        ({"models": {"embeddings": "tuned"}}, ["embeddings_enriched"]),
        ({"models": {"embeddings": "plain"}}, []),
        ({"blend": {"models": ("als", "semantic", "text_bert")}}, ["embeddings_tuned"]),
    ],
)
def test_vectors_are_compared_where_they_can_differ(sections, expected):
    variants = variant_configs(changed(Config(), **sections))
    assert [name for name in variants if name.startswith("embeddings_")] == expected


def test_noise_and_disturbance_are_measured_only():
    config = changed(
        Config(),
        describe={"enabled": True},
        context={"enabled": True},
        models={"embeddings": "tuned"},
        blend={"models": ("als", "semantic", "text_bert", "bert")},
    )
    variants = variant_configs(config)
    noise, disturbed = variants["noise"].config, variants["disturbed"].config
    assert (noise.disturb.text, noise.disturb.drop_share) == ("shuffled", 0.0)
    assert not noise.describe.enabled
    assert (disturbed.disturb.text, disturbed.disturb.drop_share) == ("typos", 0.1)
    assert disturbed.describe.enabled
    for made in (noise, disturbed):
        # no language model reads these histories, no encoder is taught on these texts
        assert not made.context.enabled
        assert made.models.embeddings == "enriched"
        assert made.blend.models == ("als", "semantic", "bert")


def test_no_variant_asks_a_language_model_or_teaches_an_encoder():
    config = changed(
        Config(), describe={"enabled": True}, context={"enabled": True}, blend={"models": ("als", "text_bert", "bert")}
    )
    for made in variant_configs(config).values():
        on = {stage.name for stage in STAGES if stage.is_on(made.config)}
        stages = on & set(experiments._measured(made.config))
        assert not {"describe", "text_bert", "gate", "publish", "rules"} & stages
        assert ("context" in stages) is not made.config.context.enabled
    assert {"context", "bert"} < set(experiments._measured(Config()))


def test_only_the_parts_that_are_asked_for():
    config = changed(Config(), ledger={"parts": ("noise",), "variants": {"small": {"bert.n_layers": 1}}})
    assert list(variant_configs(config)) == ["noise", "small"]
    assert variant_configs(changed(Config(), ledger={"parts": ()})) == {}
    with pytest.raises(ValueError, match="no part twice"):
        LedgerConfig(parts=("noise", "noise"))


def test_the_confs_own_variants_differ_in_what_they_say():
    config = changed(Config(), ledger={"variants": {"small": {"bert.n_layers": 1, "als.alpha": 3}}})
    small = variant_configs(config)["small"]
    assert small.is_choice
    assert (small.config.bert.n_layers, small.config.als.alpha) == (1, 3.0)
    place = {"root": config.tables.root}
    assert changed(small.config, bert={"n_layers": 2}, als={"alpha": config.als.alpha}, tables=place) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluate.ks": [5]}, "ledger.variants.x: evaluate.ks: expected a setting of segment, rebalance"),
        ({"text_bert.epochs": 1}, "ledger.variants.x: text_bert.epochs: expected a setting of segment"),
        ({"disturb.text": "typos"}, "ledger.variants.x: disturb.text: expected a setting of segment"),
        ({"bert.n_layer": 1}, "bert.n_layer"),
        ({"bert.n_layers": "many"}, "bert.n_layers"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_by_name(changes, message):
    config = changed(Config(), ledger={"variants": {"x": changes}})
    with pytest.raises(ConfigError, match=re.escape(message)):
        variant_configs(config)


@pytest.mark.parametrize(
    "name",
    ["plain", "both", "noise", "without_x", "embeddings_own", "Big", "a-b", "a.b", "../x", "", "1x", "x" * 33],
)
def test_a_variants_name_becomes_a_folder_and_a_schema(name):
    with pytest.raises(ValueError, match="expected names of small letters"):
        LedgerConfig(variants={name: {"bert.int8": True}})
    with pytest.raises(ValueError, match="expected settings such as"):
        LedgerConfig(variants={"x": {}})


def test_the_additions_of_the_sequence_model_are_variants():
    config = load_config(str(CONF / "sequence_additions.yaml")).config
    variants = variant_configs(config)
    assert set(config.ledger.variants) < set(variants)
    base = variants["both"].config.bert
    for name in config.ledger.variants:
        assert "bert" in variants[name].config.blend.models
        assert variants[name].config.bert != base


def test_variants_in_a_catalog_have_schemas_of_their_own():
    config = changed(Config(), tables={"catalog": "main", "silver_schema": "s", "gold_schema": "g"})
    for name, made in variant_configs(config).items():
        places = made.config.tables
        assert (places.silver_schema, places.gold_schema) == (f"s_ledger_{name}", f"g_ledger_{name}")
