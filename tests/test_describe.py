"""The stage describe on a small shop whose language model is a server of the tests: what is asked, kept, and told."""

import csv
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from lt_spark.core import tables as t
from lt_spark.core.errors import ConfigError, DataError, EngineError
from lt_spark.core.storage import Storage
from lt_spark.experiments import run_ledger
from lt_spark.passes import plan, probe
from lt_spark.variants import variant_configs
from tests.fake_model import FakeModel, fake_model, sensible_answer, title_of
from tests.prepared_shop import Shop as PreparedShop

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(900)]
LAST = "describe"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeModel]:
    with fake_model() as model:
        yield model


class Shop(PreparedShop):
    """A shop as it was once described, and what its server is asked from now on.

    It lies where it was described: a source is known by its place, too, so in a copy elsewhere nothing is up to date.
    """

    def __init__(self, described: PreparedShop) -> None:
        self.spark, self.folder = described.spark, described.folder
        shutil.rmtree(self.folder)
        shutil.copytree(_kept(self.folder), self.folder)
        self.spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        self.settings = deepcopy(described.settings)
        self.server = described.server
        self.before = self.server.asked.copy()

    def run(self, **options: Any) -> Any:
        """Run all stages up to describe, or those named."""
        return super().run(**({"stages": None, "last": LAST} | options))

    def forget(self) -> None:
        """Take the texts away, as if nothing had been asked yet."""
        for name in ("item_enrichments", "enrichment_staging"):
            shutil.rmtree(self.folder / "tables" / "silver" / name)

    def asked(self) -> dict[str, int]:
        return dict(self.server.asked - self.before)

    def titled_rows(self, current: bool = True) -> list[dict[str, Any]]:
        items = Storage(self.spark, self.config).read(t.ITEMS).select("item_idx", "title").collect()
        titles = {row["item_idx"]: row["title"] for row in items}
        return [row | {"title": titles[row["item_idx"]]} for row in self.rows() if row["is_current"] or not current]


def _kept(folder: Path) -> Path:
    """Where a copy of the described shop lies that no test changes."""
    return folder.with_name("as_described")


@pytest.fixture(scope="module")
def described(spark: Any, server: FakeModel, tmp_path_factory: Any) -> PreparedShop:
    """A shop that was described once, by 47 questions or so: each test finds it so."""
    shop = PreparedShop(spark, tmp_path_factory, tmp_path_factory.mktemp("described") / "shop", server)
    shop.run(stages=None, last=LAST)
    shutil.copytree(shop.folder, _kept(shop.folder))
    return shop


@pytest.fixture
def shop(server: FakeModel, described: PreparedShop) -> Iterator[Shop]:
    yield Shop(described)
    server.answer, server.before = sensible_answer, lambda title: None


def test_each_tail_and_cold_item_has_one_accepted_text(shop: Shop) -> None:
    rows = shop.titled_rows()
    assert len(rows) == shop.n_tail() > 30
    assert len({row["key"] for row in rows}) == len(rows)
    assert {row["status"] for row in rows} == {"accepted"}
    one = rows[0]
    assert one["title"].lower() in one["description"] and one["keywords"]
    told = {"engine": "openai", "model": "fake-1", "prompt_version": "ecommerce-1", "examples_version": 1}
    assert {name: one[name] for name in told} == told
    assert (one["n_tries"], one["n_prompt_tokens"], one["n_output_tokens"]) == (1, 100, 20)


def test_the_report_says_how_many_passed_each_check(shop: Shop) -> None:
    report = shop.report()
    n = len(shop.titled_rows())
    assert report["asked"] == report["passed_form"] == report["passed_unsafe"] == report["status_accepted"] == n
    assert report["prompt_tokens"] == 100 * n
    assert report["loads_in_a_worker"] == 1


def test_nothing_is_asked_twice(shop: Shop) -> None:
    before = sorted(row["key"] for row in shop.titled_rows(current=False))
    shop.run(force=True, stages=["describe"])
    assert shop.asked() == {}
    assert sorted(row["key"] for row in shop.titled_rows(current=False)) == before


def test_new_events_ask_nothing_again(shop: Shop) -> None:
    described = {row["title"] for row in shop.titled_rows()}
    with (shop.folder / "interactions.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["u000", "00", 1_700_000_000 + n] for n in range(3)])
    shop.run()
    assert not described & set(shop.asked())
    assert all(n == 1 for n in shop.asked().values())


def test_a_new_prompt_asks_again_and_the_old_rows_stay(shop: Shop) -> None:
    import lt_spark.enrich

    pack = yaml.safe_load((Path(lt_spark.enrich.__file__).parent / "packs" / "ecommerce.yaml").read_text("utf-8"))
    mine = shop.folder / "mine.yaml"
    mine.write_text(yaml.safe_dump(pack | {"name": "mine", "version": 2}), encoding="utf-8")
    old = shop.titled_rows()
    shop.change("describe", pack=str(mine))
    shop.run()
    assert sum(shop.asked().values()) == len(old)
    assert {row["prompt_version"] for row in shop.titled_rows()} == {"mine-2"}
    assert len(shop.titled_rows(current=False)) == 2 * len(old)
    shop.change("describe", pack="ecommerce")
    shop.before = shop.server.asked.copy()
    shop.run()
    assert shop.asked() == {}, "what was done before is known"
    assert {row["prompt_version"] for row in shop.titled_rows()} == {"ecommerce-1"}


def test_a_stricter_gate_judges_again_and_asks_nothing(shop: Shop) -> None:
    shop.change("text_gate", max_chars=40)
    shop.run()
    assert shop.asked() == {}
    rows = shop.titled_rows()
    assert {(row["status"], row["reason"]) for row in rows} == {("fallback", "length")}
    assert all(row["description"] and row["description"] != row["answer"] for row in rows)


def test_new_examples_ask_only_what_they_change(shop: Shop) -> None:
    shop.run(renew_examples=True)
    assert shop.asked() == {}, "the same catalogue makes the same pool"
    catalogue = (shop.folder / "items.csv").read_text(encoding="utf-8")
    (shop.folder / "items.csv").write_text(catalogue.replace("Thing 0 «é»", "Garden hose 7"), encoding="utf-8")
    shop.run()
    asked_without_renewal = sum(shop.asked().values())
    shop.run(renew_examples=True)
    assert asked_without_renewal <= sum(shop.asked().values()) < len(shop.titled_rows())
    versions = Storage(shop.spark, shop.config).read(t.PROMPT_EXAMPLES).select("examples_version").distinct().collect()
    assert sorted(row["examples_version"] for row in versions) == [1, 2, 3]


def test_an_item_is_never_its_own_example(server: FakeModel, described: Any) -> None:
    for body in server.bodies[:30]:
        titles = [line for line in body["messages"][-1]["content"].splitlines() if line.startswith("Title:")]
        assert len(titles) == 5
        assert titles[-1] not in titles[:-1]


def test_a_budget_stops_and_continue_goes_on(spark: Any, server: FakeModel, shop: Shop) -> None:
    n_all = len(shop.titled_rows())
    shop.forget()
    shop.change("describe", max_items=20)
    summary = shop.run(force=True, stages=["describe"])
    assert [event.is_complete for event in summary.stages] == [False]
    assert any("complete=false" in note for note in summary.notes)
    assert len(shop.titled_rows()) == sum(shop.asked().values()) == 20
    (again,) = [event for event in shop.run().stages if event.stage == LAST]
    assert again.kind == "up_to_date", "without --continue it stays as it is"
    (planned,) = [stage for stage in plan(spark, shop.config, purpose="evaluate", go_on=True) if stage.stage == LAST]
    assert planned.runs
    shop.run(go_on=True)
    assert len(shop.titled_rows()) == sum(shop.asked().values()) == 40
    estimate = probe(spark, shop.config, plan(spark, shop.config, purpose="evaluate", go_on=True))
    assert estimate is not None
    assert (estimate.items, estimate.probed, estimate.tokens) == (n_all - 40, n_all - 40, 120 * (n_all - 40))


def test_what_the_engine_failed_on_is_asked_again(shop: Shop) -> None:
    shop.forget()
    victim = "Thing 40 «é»"
    shop.server.answer = lambda text: None if title_of(text) == victim else sensible_answer(text)
    summary = shop.run(force=True, stages=["describe"])
    assert [row["title"] for row in shop.titled_rows() if row["status"] == "failed"] == [victim]
    assert not summary.stages[-1].is_complete
    shop.server.answer = sensible_answer
    shop.run(go_on=True)
    assert {row["status"] for row in shop.titled_rows()} == {"accepted"}


def test_an_engine_that_always_fails_stops_the_stage(shop: Shop) -> None:
    shop.forget()
    shop.server.answer = lambda text: None
    with pytest.raises(EngineError, match="all 1[0-9] answers of a wave failed"):
        shop.run(force=True, stages=["describe"])


def test_a_bad_answer_gets_one_more_try_then_the_fallback(shop: Shop) -> None:
    shop.forget()
    shop.server.answer = lambda text: " garden tool\nDescription: Buy it at https://example.com now and be happy."
    shop.change("describe", max_items=16)
    shop.run(force=True, stages=["describe"])
    rows = shop.titled_rows()
    assert len(rows) == len(shop.asked()) == 16
    assert set(shop.asked().values()) == {2}
    assert {row["status"] for row in rows} == {"fallback"}
    assert all("contact" in row["reason"] and "example.com" not in row["description"] for row in rows)
    assert {row["n_tries"] for row in rows} == {2}


def test_items_with_the_same_text_are_asked_once_and_untitled_ones_not(shop: Shop) -> None:
    with (shop.folder / "items.csv").open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[f"twin{n}", "Blue enamel bucket", "garden tool, tool"] for n in range(3)])
        csv.writer(file).writerows([["untitled", "", "tool"], ["unreadable", "\u200b\u202e", "tool"]])
    summary = shop.run()
    twins = [row for row in shop.titled_rows() if row["title"] == "Blue enamel bucket"]
    # each twin's examples are the two others and two more: the prompts are the same but for which twin is which
    assert len(twins) == 3
    assert len({row["key"] for row in twins}) == 3
    assert shop.asked() == {"Blue enamel bucket": len({row["input_key"] for row in twins})}
    assert "describe: 2 items have no title that can be read: nothing is written of them" in summary.notes


def test_misspelt_fields_are_named(shop: Shop) -> None:
    shutil.rmtree(shop.folder / "tables" / "silver" / "prompt_examples")
    shop.change("describe", keyword_fields=["knd"])
    with pytest.raises(DataError, match=r"no item can be an example.*'knd'.*\['kind'\]"):
        shop.run(force=True, stages=["describe"])


@pytest.mark.parametrize(
    ("section", "values", "told"),
    [
        ("embed", {"model": ""}, "embed.model is empty"),
        ("describe", {"keyword_fields": []}, "describe.keyword_fields is empty"),
        ("language_model", {"engine": "transformers", "model": "/nowhere"}, "/nowhere"),
        ("language_model", {"engine": "transformers", "model": ""}, "language_model.model is empty"),
    ],
)
def test_what_is_missing_is_told_before_any_task(shop: Shop, section: str, values: dict[str, Any], told: str) -> None:
    shop.change(section, **values)
    with pytest.raises((ConfigError, Exception), match=told):
        shop.run(force=True, stages=["describe"])


def test_imported_texts_pass_the_same_gate(shop: Shop) -> None:
    texts = shop.folder / "texts.csv"
    with texts.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "text"])
        writer.writerow(
            ["061", "Keywords: garden tool, tool\nDescription: A handy thing for the garden and the house."]
        )
        writer.writerow(["060", "A plain sentence about a thing for the house."])
        writer.writerow(["040", "See http://example.com for this thing and more."])
        writer.writerow(["nobody", "A text of an item that is not there."])
    shop.change("language_model", engine="imported", model="batch")
    shop.change("describe", imported_path=str(texts))
    shop.run()
    rows = {row["title"].split()[1]: row for row in shop.titled_rows()}
    assert set(rows) == {"61", "60", "40"}
    assert (rows["61"]["status"], rows["61"]["keywords"]) == ("accepted", ["garden tool", "tool"])
    assert (rows["60"]["status"], rows["60"]["description"]) == (
        "accepted",
        "A plain sentence about a thing for the house.",
    )
    assert (rows["40"]["status"], rows["40"]["reason"]) == ("fallback", "contact")
    assert shop.asked() == {}


@pytest.mark.timeout(3600)
def test_variants_of_the_ledger_read_what_is_written_and_ask_nothing(shop: Shop) -> None:
    shop.change("als_plain", ranks=[4], alphas=[10.0], max_iter=2)
    shop.change("als", max_iter=2)
    shop.change("blend", models=["als", "semantic", "lexical"])
    shop.change("evaluate", ks=[10], n_replicates=100)
    shop.change("candidates", n=20)
    shop.change("ledger", parts=["embeddings", "noise", "robustness"])
    rows = run_ledger(shop.spark, shop.config)
    assert shop.asked() == {}
    variants = variant_configs(shop.config)
    assert set(variants) == {"embeddings_plain", "noise", "disturbed"}
    assert {row["variant"] for row in rows} == set(variants)
    own = {row["key"] for row in shop.rows()}
    for name, variant in variants.items():
        written = Storage(shop.spark, variant.config).read_or_empty(t.ITEM_ENRICHMENTS).select("key").collect()
        assert {row["key"] for row in written} == (own if name != "noise" else set()), name
    # new texts by the same settings reach the variants too
    shop.forget()
    shop.server.answer = lambda text: sensible_answer(text).replace(" handy ", " fine ")
    shop.run(force=True, stages=["describe"])
    assert shop.asked()
    shop.change("ledger", parts=["embeddings"])
    run_ledger(shop.spark, shop.config)
    texts = {row["key"]: row["description"] for row in shop.rows()}
    written = Storage(shop.spark, variants["embeddings_plain"].config).read(t.ITEM_ENRICHMENTS).collect()
    assert {row["key"]: row["description"] for row in written} == texts
