"""Which code stands in a stage's key."""

import pytest

from lt_spark import stages
from lt_spark.core import code
from lt_spark.pipeline import STAGES

NAMED = {stage.name: code.code_of_stage(stage.run) for stage in STAGES}


def modules(name: str) -> set[str]:
    """Return all modules of a stage's key."""
    return {each for module in NAMED[name][1] for each in code.imports_of(module)}


def test_a_code_version_covers_what_the_module_imports() -> None:
    found = code.imports_of("lt_spark.models.als")
    assert {"lt_spark.models.als", "lt_spark.frames.top_k", "lt_spark.kernels.topk"} <= found
    assert not any(name.startswith("lt_spark.core") for name in found)


def test_what_a_stage_calls_is_in_its_key_wherever_it_stands() -> None:
    # a module of a room, and what that imports
    assert {"lt_spark.measure.evaluate", "lt_spark.frames.user_metrics", "lt_spark.kernels.metrics"} <= modules(
        "evaluate"
    )
    # a helper in a file of stages, and one behind a module's name
    assert "lt_spark.stages.model_lists" in NAMED["evaluate"][0]
    assert "lt_spark.enrich_stages.encoding" in NAMED["describe"][0] | NAMED["embed_enriched"][0]
    # what a property of the context calls
    assert "lt_spark.stages.Context.recommendable" in NAMED["popularity"][0]
    assert "lt_spark.frames.recommendable" in modules("popularity")
    # what is imported where it is needed
    assert "lt_spark.models.bert.serve" in modules("bert")
    # a constant
    assert NAMED["gate"][0]["lt_spark.stages._GATE_K"] == "10"


def test_what_it_does_not_call_is_not() -> None:
    assert "lt_spark.publish_stage.publish" not in NAMED["evaluate"][0]
    # a local variable of the name of a stage
    assert "lt_spark.stages.split" not in NAMED["popularity"][0]
    assert not any("bert" in name for name in modules("popularity"))


def test_another_helper_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(c: stages.Context) -> None:
        """Do what another release does there."""

    key = code.stage_code.__wrapped__
    before = key(stages.evaluate)
    assert key(stages.evaluate) == before
    other.__module__ = stages.__name__
    monkeypatch.setattr(stages, "model_lists", other)
    assert key(stages.evaluate) != before
