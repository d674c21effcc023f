"""Budgets: items, tokens, money, seconds."""

import pytest

from lt_spark.core.config import Config
from lt_spark.core.config_text import DescribeConfig
from lt_spark.core.errors import ConfigError
from lt_spark.enrich.budget import Budget
from lt_spark.enrich_stages import check_config


def test_without_limits_there_is_no_limit() -> None:
    budget = Budget()
    budget.spend(1_000, 10**9)
    assert budget.items_left() is None


def test_items() -> None:
    budget = Budget(max_items=10)
    assert budget.items_left() == 10
    budget.spend(7, 0)
    assert budget.items_left() == 3
    budget.spend(4, 0)
    assert budget.items_left() == 0, "never below"


def test_tokens_by_what_an_item_took_so_far() -> None:
    budget = Budget(max_tokens=1_000, expected_tokens=200)
    assert budget.items_left() == 1_000 // 200
    budget.spend(4, 400)
    assert budget.items_left() == (1_000 - 400) // 100
    budget.spend(4, 601)
    assert budget.items_left() == 0


def test_items_that_took_no_tokens_say_nothing_of_those_to_come() -> None:
    budget = Budget(max_tokens=1_000, expected_tokens=200)
    budget.spend(50, 0)
    assert budget.items_left() == 5


def test_money_by_the_price() -> None:
    # 3 for a million tokens: .006 buy 2,000
    budget = Budget(max_cost=0.006, price=3.0, expected_tokens=100)
    assert budget.items_left() == 20
    budget.spend(5, 1_000)
    assert budget.cost == pytest.approx(0.003)
    assert budget.items_left() == 1_000 // 200


def test_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    budget = Budget(max_seconds=60.0, started=100.0)
    assert budget.items_left() is None
    monkeypatch.setattr("time.monotonic", lambda: 159.0)
    assert budget.items_left() is None
    monkeypatch.setattr("time.monotonic", lambda: 160.0)
    assert budget.items_left() == 0


def test_the_tightest_limit_counts() -> None:
    section = DescribeConfig(max_items=30, max_tokens=1_000, max_cost=0.001, max_seconds=1e9)
    budget = Budget.of(section, price=2.0, expected_tokens=10.0)
    assert budget.items_left() == min(30, 1_000 // 10, 500 // 10)
    budget.spend(10, 450)
    assert budget.items_left() == min(20, 550 // 45, 50 // 45)


def test_a_budget_of_money_needs_a_price() -> None:
    settings = {"describe": {"enabled": True, "keyword_fields": ["kind"], "max_cost": 5.0}, "embed": {"model": "m"}}
    with pytest.raises(ConfigError, match="describe.max_cost is set and language_model.price_per_million_tokens is 0"):
        check_config(Config.model_validate(settings))
    check_config(Config.model_validate(settings | {"language_model": {"price_per_million_tokens": 0.5}}))
