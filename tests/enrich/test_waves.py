"""What waves come to: sums over a wave in one job, sums over waves, and an engine that is dead."""

from collections.abc import Callable
from typing import Any

import pytest

from lt_spark.core.errors import EngineError
from lt_spark.core.tables import ENRICHMENT_STAGING
from lt_spark.enrich.gate import CHECK_NAMES
from lt_spark.enrich.waves import Tally, wave_totals


def wave(items: float, **values: float) -> dict[str, float]:
    """The totals of a wave in which all that is not named is zero."""
    names = ("inputs", "asked", "tries", "prompt_tokens", "output_tokens", "engine_seconds")
    found = dict.fromkeys((*names, "workers", "loads_in_a_worker", "load_seconds"), 0.0)
    found |= {f"status_{name}": 0.0 for name in ("accepted", "fallback", "refused", "failed")}
    found |= {f"check_{name}": 0.0 for name in CHECK_NAMES}
    return found | {"items": float(items), "inputs": float(items)} | values


def test_waves_add_up_and_loads_do_not() -> None:
    tally = Tally()
    first = wave(10, status_accepted=8, status_fallback=2, prompt_tokens=1_000, output_tokens=200, check_echo=3)
    second = wave(6, inputs=5, status_accepted=4, status_failed=2, prompt_tokens=500, output_tokens=100, check_echo=1)
    tally.add(first | {"workers": 2, "loads_in_a_worker": 1, "load_seconds": 4.0}, 10.0)
    tally.add(second | {"workers": 1, "loads_in_a_worker": 1, "load_seconds": 3.0}, 6.0)
    found = tally.measures()
    assert (found["items"], found["inputs"], found["status_accepted"], found["status_failed"]) == (16, 15, 12, 2)
    assert (found["seconds"], found["workers"], found["loads_in_a_worker"], found["load_seconds"]) == (16, 2, 1, 4)
    assert found["tokens_per_s"] == 1_800 / (16 - 4)
    assert found["accepted_share"] == 12 / 16
    assert found["passed_echo"] == 15 - 4
    assert found["passed_form"] == 15
    assert not any(name.startswith("check_") for name in found)
    assert {f"passed_{name}" for name in CHECK_NAMES} < set(found)


def test_nothing_done_is_no_division_by_zero() -> None:
    assert (Tally().tokens_per_s, Tally().accepted_share) == (0, 0)


def test_a_wave_of_failures_stops_the_stage() -> None:
    tally = Tally()
    with pytest.raises(EngineError, match="all 8 answers of a wave failed: the engine does not answer"):
        tally.add(wave(8, status_failed=8), 1.0)
    assert tally.totals["status_failed"] == 8, "what was spent is known all the same"


@pytest.mark.parametrize("totals", [wave(7, status_failed=7), wave(9, status_failed=8, status_accepted=1)])
def test_a_few_failures_are_their_items_fault(totals: dict[str, float]) -> None:
    Tally().add(totals, 1.0)


@pytest.mark.spark
def test_rows_of_one_input_are_counted_once(frame: Callable[..., Any]) -> None:
    common = {"n_loads": 1, "load_s": 2.5, "checks": [], "worker": "w1", "is_asked": True}
    asked = {"status": "accepted", "n_tries": 1, "n_prompt_tokens": 10, "n_output_tokens": 5, "seconds": 0.5}
    second = {"status": "fallback", "n_tries": 2, "n_prompt_tokens": 20, "n_output_tokens": 9, "seconds": 1.0}
    known = {"status": "accepted", "is_asked": False, "worker": "w3", "n_tries": 0, "n_loads": 0, "load_s": 0.0}
    rows = [
        common | asked | {"key": "a", "input_key": "1"},
        common | asked | {"key": "b", "input_key": "1"},  # the same input: its tokens were spent once
        common | second | {"key": "c", "input_key": "2", "worker": "w2", "checks": ["echo", "length"]},
        common | known | {"key": "d", "input_key": "3"},
    ]
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    place = F.row_number().over(Window.partitionBy("input_key").orderBy("key"))
    found = frame(ENRICHMENT_STAGING, rows).withColumn("place", place).agg(*wave_totals()).first().asDict()
    told = {name: value for name, value in found.items() if value}
    assert told == {
        "items": 4,
        "inputs": 3,
        "asked": 2,
        "tries": 3,
        "prompt_tokens": 30,
        "output_tokens": 14,
        "engine_seconds": 1.5,
        "workers": 2,
        "loads_in_a_worker": 1,
        "load_seconds": 2.5,
        "status_accepted": 3,
        "status_fallback": 1,
        "check_echo": 1,
        "check_length": 1,
    }
    assert set(found.values()) >= {0.0}, "nothing is null"
