"""Rules and re-ranking through the pipeline: what is blocked is nowhere in gold, and what is on is told."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F

from lt_spark import blend_stage
from lt_spark.core import tables as t
from lt_spark.core.config import Config
from lt_spark.core.errors import ConfigError, SourceError
from lt_spark.core.storage import Storage
from lt_spark.kernels import fair
from lt_spark.passes import plan, run
from lt_spark.stages import Context
from tests.small_shop import write_shop

N_USERS, N = 24, 12
BEFORE = ["clean", "split", "segment", "popularity", "neighbours"]
AFTER = ["rules", "blend", "publish"]
HEADER = "item_id,action,value,user_id,starts_on,ends_on,reason\n"
WITHOUT_REACH = {"reach_share": 0.0}
QUOTA_AND_CAP = WITHOUT_REACH | {
    "quota_share": 0.6,
    "quota_alpha": 0.3,
    "quota_floor": 0.0,
    "cap": 4,
    "cap_field": "kind",
}


class Live:
    """A shop with few users and two models; plain ALS stands in the tables by hand."""

    def __init__(self, spark: Any, folder: Path) -> None:
        settings = write_shop(folder, n_users=N_USERS)
        settings["blend"] = {"n": N, "models": ["popularity", "neighbours"]}
        settings["candidates"] = {"n": 40}
        settings["rerank"] = WITHOUT_REACH
        self.spark, self.settings, self.rules_file = spark, settings, folder / "rules.csv"
        self.today = datetime.now(UTC).date()
        for purpose in ("produce", "evaluate"):
            run(spark, self.config(), purpose=purpose, stages=BEFORE)
        self.storage = Storage(spark, self.config(), "run-by-hand")
        weights = [(half, name, 1.0, 0.5) for half in (-1, 0, 1) for name in ("popularity", "neighbours")]
        self.storage.write(t.BLEND_WEIGHTS, spark.createDataFrame(weights, t.BLEND_WEIGHTS.schema))
        popular = self.storage.read(t.CANDIDATES["popularity"], "live").withColumn("model_name", F.lit("als_plain"))
        self.storage.write(t.CANDIDATES["als_plain"], popular, "live")

    def config(self, **sections: Any) -> Config:
        return Config.model_validate(self.settings | sections)

    @property
    def with_rules(self) -> Config:
        source = self.settings["source"] | {"rules": {"path": str(self.rules_file)}}
        return self.config(source=source)

    def lists(self, fold: str) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {}
        for row in self.storage.read(t.RECOMMENDATIONS, fold).orderBy("user_idx", "rank").collect():
            found.setdefault(row["user_idx"], []).append(row)
        return found

    def report(self, fold: str) -> dict[tuple[str, str], float]:
        rows = self.storage.read(t.RERANK_REPORT, fold).collect()
        return {(row["rule"], row["measure"]): row["value"] for row in rows}


def test_a_cap_on_what_no_item_has_is_refused() -> None:
    source = {"items": {"columns": {"text": ["brand", "kind"]}}}
    blend_stage.check_config(Config.model_validate({"rerank": {"cap": 2, "cap_field": "brand"}, "source": source}))
    wrong = Config.model_validate({"rerank": {"cap": 2, "cap_field": "bran"}, "source": source})
    with pytest.raises(ConfigError, match=r"rerank\.cap_field is 'bran': .*\(brand, kind\)\. Did you mean 'brand'\?"):
        blend_stage.check_config(wrong)
    with pytest.raises(ValueError, match=r"rerank\.cap is set without rerank\.cap_field"):
        Config.model_validate({"rerank": {"cap": 2}})


@pytest.fixture(scope="module")
def before(spark: Any, tmp_path_factory: Any) -> Live:
    """The shop without rules."""
    live = Live(spark, tmp_path_factory.mktemp("rules"))
    run(spark, live.config(), purpose="produce", stages=AFTER)
    assert not live.storage.exists(t.RERANK_REPORT)
    return live


@pytest.fixture(scope="module")
def live(before: Live) -> tuple[Live, set[str], Any]:
    """The shop with rules that block what stands everywhere."""
    read = before.storage.read
    shown = read(t.GOLD_RECOMMENDATIONS).where("rank = 1").groupBy("item_id").count()
    first = shown.orderBy(F.desc("count"), "item_id").first()["item_id"]
    reason = read(t.GOLD_RECOMMENDATIONS).where("reason_item_id IS NOT NULL").orderBy("user_id", "rank").first()
    tail = read(t.GOLD_TAIL_ITEMS).where("n_users_reached > 0").orderBy("item_id").first()["item_id"]
    neighbour = read(t.GOLD_SIMILAR_ITEMS).where("rank = 1").orderBy("item_id").first()["similar_item_id"]
    default = read(t.GOLD_RECOMMENDATIONS_DEFAULT).where("rank = 1").first()["item_id"]
    blocked = dict.fromkeys([first, reason["reason_item_id"], tail, neighbour, default])
    lines = [
        f"{first},pin,1,,{before.today},,against the block",
        *(f"{item},block,,,,{before.today},recalled" for item in blocked),
        "060,pin,2,,,,«new»: é",  # nobody bought it
        f"061,pin,1,,,{before.today - timedelta(days=1)},over",
        f"061,pin,1,,{before.today + timedelta(days=1)},,not yet",
        "nothing,block,,,,,unknown",
    ]
    before.rules_file.write_text(HEADER + "\n".join(lines), encoding="utf-8")
    return before, set(blocked), run(before.spark, before.with_rules, purpose="produce", stages=AFTER)


@pytest.mark.spark
@pytest.mark.slow
class TestLive:
    def test_what_is_blocked_is_nowhere_in_gold(self, live: Any) -> None:
        shop, blocked, _ = live
        titles = {f"Thing {int(item)} «é»" for item in blocked}
        for table in t.ALL_TABLES:
            if table.layer == "gold" and shop.storage.exists(table):
                rows = shop.storage.read(table).collect()
                assert rows, table.name
                told = [str(value) for row in rows for value in row]
                assert not blocked & set(told), table.name
                assert not any(title in value for title in titles for value in told), table.name

    def test_what_is_pinned_stands_at_its_place_with_the_shops_reason(self, live: Any) -> None:
        shop, _, _ = live
        lists = shop.storage.read(t.GOLD_RECOMMENDATIONS).collect()
        pinned = [row for row in lists if row["item_id"] == "060"]
        assert {(row["rank"], row["reason_code"], row["reason"], row["models"]) for row in pinned} == {
            (2, "pinned", "«new»: é", "")
        }
        assert {row["user_id"] for row in pinned} == {row["user_id"] for row in lists}
        assert len(pinned) == N_USERS == sum(row["reason_code"] == "pinned" for row in lists)
        default = shop.storage.read(t.GOLD_RECOMMENDATIONS_DEFAULT).where("rank = 2").first()
        assert (default["item_id"], default["segment"]) == ("060", "cold")
        for rows in shop.lists("live").values():
            assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
            assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)

    def test_refused_rules_and_what_the_others_cost_are_told(self, live: Any) -> None:
        shop, blocked, summary = live
        refused = {row["record"]: row["reason"] for row in shop.storage.read(t.REJECTED_RULES).collect()}
        last = 1 + 1 + len(blocked) + 4
        assert refused == {2: "the item is blocked at the same time", last: "item is unknown"}
        (warning,) = [note for note in summary.notes if note.startswith("warning: 2 of ")]
        assert "1 item is unknown; 1 the item is blocked at the same time" in warning
        told = shop.report("live")
        assert {rule for rule, _ in told} == {"rules"}
        assert told["rules", "users"] == told["rules", "users_touched"] == told["rules", "pins_placed"] == N_USERS
        assert told["rules", "items_blocked"] >= N_USERS // 4
        assert 0 < told["rules", "score_lost"] < 1
        assert any(note.startswith("blend (live): rules: ") for note in summary.notes)

    def test_rules_make_stale_what_they_reach_and_each_day_does(
        self, live: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop, _, _ = live

        def stale(config: Config) -> set[tuple[str, str | None]]:
            planned = plan(shop.spark, config, stages=[*BEFORE, *AFTER])
            return {(one.stage, one.fold) for one in planned if one.runs} - {("blend", "valid"), ("blend", "test")}

        assert stale(shop.with_rules) == set()
        assert stale(shop.config()) == {("blend", "live"), ("publish", "live")}
        tomorrow = lambda config, _: "tomorrow" if blend_stage.rules_are_on(config) else ""  # noqa: E731
        monkeypatch.setattr("lt_spark.stage_tasks._day", tomorrow)
        assert ("clean", None) not in stale(shop.with_rules)

    def test_a_file_that_cannot_be_read_stops_the_run_and_leaves_the_rules_as_they_were(self, live: Any) -> None:
        shop, _, _ = live
        n_rules = shop.storage.count(t.BUSINESS_RULES)
        written = shop.rules_file.read_bytes()
        try:
            shop.rules_file.write_bytes(HEADER.encode() + b"00,block,,,,,\xff\n")
            with pytest.raises(SourceError, match=r"source\.rules: file cannot be read: .*byte 0xff is not utf-8"):
                run(shop.spark, shop.with_rules, stages=["rules"])
        finally:
            shop.rules_file.write_bytes(written)
        assert shop.storage.count(t.BUSINESS_RULES) == n_rules

    def test_where_the_gate_refused_the_blend_plain_als_is_not_re_ranked(self, live: Any, frame: Any) -> None:
        shop, _, _ = live
        row = {"run_id": "r", "decided_at": datetime(2026, 1, 1), "model_name": "als_plain", "settings": "{}"}
        shop.storage.write(t.ACCEPTED_SETTINGS, frame(t.ACCEPTED_SETTINGS, [row]))
        context = Context(
            shop.spark, shop.config(rerank=QUOTA_AND_CAP), shop.storage, "blend", "live", datetime(2026, 1, 1)
        )
        blend_stage.blend(context)
        assert {
            part["model_name"] for rows in shop.lists("live").values() for row in rows for part in row["models"]
        } == {"als_plain"}
        assert shop.report("live") == {}, "what another run told of the fold is gone"

    @pytest.mark.parametrize("reach", [{}, {"reach_share": 0.5, "reach_k": 5}])
    @pytest.mark.parametrize("observes", [True, False])
    def test_quota_and_cap_hold_on_valid_and_rules_do_not(
        self, live: Any, reach: dict[str, Any], observes: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shop, _, _ = live
        if not observes:  # as on Spark 4.1
            monkeypatch.setattr(blend_stage, "observes_delta", lambda version: False)
        config = shop.with_rules.model_copy(update={"rerank": shop.config(rerank=QUOTA_AND_CAP | reach).rerank})
        context = Context(shop.spark, config, shop.storage, "blend", "valid", datetime(2026, 1, 1))
        blend_stage.blend(context)
        told, lists = shop.report("valid"), shop.lists("valid")
        assert {rule for rule, _ in told} == {"quota", "cap", *(["reach"] if reach else [])}
        assert told["quota", "users"] == told["cap", "users"] == len(lists) > N_USERS // 2
        assert told["quota", "tail_share_before"] < told["quota", "tail_share_after"]
        assert told["quota", "tail_share_after"] == told["cap", "tail_share_before"]
        assert 0 < told["quota", "score_lost"] < 1
        least = fair.least_protected(N, 0.6, fair.adjusted_alpha(N, 0.6, 0.3))
        assert least[-1] > 1
        items = shop.storage.read(t.ITEMS).collect()
        kinds = {row["item_idx"]: row["attributes"][0]["value"] for row in items if row["attributes"]}
        n_short = n_over = n_tail = n_places = 0
        rule, k = ("reach", 5) if reach else ("cap", 10)
        for rows in lists.values():
            assert len(rows) == N
            has = [sum(row["segment"] in ("tail", "cold") for row in rows[: place + 1]) for place in range(N)]
            n_short += any(count < wanted for count, wanted in zip(has, least, strict=True))
            of_kind = [kinds[row["item_idx"]] for row in rows[:10]]
            n_over += max(map(of_kind.count, of_kind)) > 4
            n_tail, n_places = n_tail + has[k - 1], n_places + k
        assert n_over <= told["cap", "users_short"]
        assert n_short <= told["quota", "users_short"] + told["cap", "users_short"]
        assert n_tail / n_places == pytest.approx(told[rule, "tail_share_after"])
        if reach:
            assert 0 < told["reach", "users_touched"] <= 0.5 * len(lists)
            assert told["reach", "users"] == len(lists)
        assert [note.split(":")[0] for note in context.notes] == ["blend (valid)"] * (3 if reach else 2)
