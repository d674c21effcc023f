"""A log and a catalogue of any size, made on Spark, for measuring.

    python tests/benchmarks/generate.py --events 5000000 --users 300000 --items 80000 --seed 1 --out FOLDER

writes FOLDER/interactions (user_id, item_id, timestamp, event_type) and FOLDER/items (item_id, title, category, brand).

Every value is a function of a hash of (row number, seed), so the rows are the same under any partitioning. Users and
items are drawn from Zipf laws; each user likes one category, so that there is something to learn; events grow denser
with time; and a share of the events follows a front of new items that moves through the catalogue (drift).
"""

import argparse
import sys
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

START_S = 1_672_531_200  # 2023-01-01T00:00:00Z
SPAN_S = 730 * 86_400
ITEM_EXPONENT = 1.0
USER_EXPONENT = 0.5
TASTE_SHARE = 0.6  # of events that stay in the user's category
DRIFT_SHARE = 0.2  # of events that follow the moving front
ROWS_PER_FILE = 1_000_000
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tools": (("cordless", "heavy-duty", "insulated", "magnetic"), ("drill", "wrench", "clamp", "chisel", "vise")),
    "kitchen": (("cast-iron", "non-stick", "stainless", "ceramic"), ("pan", "kettle", "grater", "whisk", "casserole")),
    "garden": (("hardy", "organic", "telescopic", "rustproof"), ("trowel", "pruner", "seed mix", "planter", "hose")),
    "books": (("illustrated", "annotated", "pocket", "classic"), ("atlas", "novel", "cookbook", "memoir", "primer")),
    "music": (("acoustic", "vintage", "remastered", "studio"), ("guitar", "album", "metronome", "drumsticks", "score")),
    "sports": (("breathable", "carbon", "waterproof", "padded"), ("racket", "helmet", "jersey", "gloves", "kayak")),
    "toys": (("wooden", "glow-in-the-dark", "plush", "remote"), ("train", "puzzle", "bear", "blocks", "rocket")),
    "office": (("ergonomic", "recycled", "adjustable", "wireless"), ("chair", "stapler", "notebook", "desk", "lamp")),
}
BRANDS = ("Arbel", "Borja", "Corvin", "Dunmore", "Elstad", "Fennick", "Gorse", "Hallam", "Ibarra", "Jarvik")


def uniform(row: Column, seed: int, what: str) -> Column:
    """Return a number in [0, 1) with 53 bits, a hash of the row number, the seed and what it is for."""
    return F.shiftrightunsigned(F.xxhash64(row, F.lit(seed), F.lit(what)), 11) / F.lit(float(2**53))


def zipf_rank(u: Column, n: int, exponent: float) -> Column:
    """Return a rank in 0..n-1 whose probability falls as (rank + 1)^-exponent (inverse of the continuous law).

    F(x) = (x^(1-s) - 1) / ((n+1)^(1-s) - 1) on [1, n+1), or ln x / ln(n+1) where s = 1.
    """
    if exponent == 1.0:
        x = F.pow(F.lit(float(n + 1)), u)
    else:
        power = 1.0 - exponent
        x = F.pow(u * ((n + 1) ** power - 1.0) + 1.0, F.lit(1.0 / power))
    return F.least(F.floor(x) - 1, F.lit(n - 1)).cast("bigint")


def one_of(u: Column, words: tuple[str, ...]) -> Column:
    """Return one of the words, by a uniform number."""
    return F.element_at(F.array(*map(F.lit, words)), (F.floor(u * len(words)) + 1).cast("int"))


def item_id(item: Column) -> Column:
    """Return the external id of an item number: ``I`` and nine digits."""
    return F.format_string("I%09d", item)


def interactions(spark: SparkSession, events: int, users: int, items: int, seed: int, partitions: int) -> DataFrame:
    """Return a log: user_id string, item_id string, timestamp epoch seconds (bigint), event_type view, cart or buy."""
    row = F.col("id")

    def draw(what: str) -> Column:
        return uniform(row, seed, what)

    n_categories = min(len(WORDS), items)
    user = zipf_rank(draw("user"), users, USER_EXPONENT)
    share = F.pow(draw("time"), F.lit(0.8))  # where in the log's span; the later, the denser
    rank = zipf_rank(draw("item"), items, ITEM_EXPONENT)
    # the front goes through a tenth of the catalogue in the log's span
    front = F.when(draw("is_new") < DRIFT_SHARE, F.floor(share * (items / 10))).otherwise(F.lit(0))
    item = F.pmod(rank + front, F.lit(items))
    # the nearest item of the category that the user likes
    taste = F.pmod(F.xxhash64(user, F.lit(seed), F.lit("taste")), F.lit(n_categories))
    liked = F.least(item - F.pmod(item, F.lit(n_categories)) + taste, F.lit(items - 1))
    item = F.when(draw("is_taste") < TASTE_SHARE, liked).otherwise(item)
    kind = draw("event_type")
    return spark.range(0, events, 1, partitions).select(
        F.format_string("U%09d", user).alias("user_id"),
        item_id(item).alias("item_id"),
        (F.lit(START_S) + F.floor(share * SPAN_S)).cast("bigint").alias("timestamp"),
        F.when(kind < 0.8, "view").when(kind < 0.92, "cart").otherwise("buy").alias("event_type"),
    )


def catalogue(spark: SparkSession, items: int, seed: int, partitions: int) -> DataFrame:
    """Return the items: item_id, title (adjective, noun, brand, number), category, brand; all strings."""
    row = F.col("id")
    n_categories = min(len(WORDS), items)
    category = F.pmod(row, F.lit(n_categories))
    adjective, noun = F.lit(None).cast("string"), F.lit(None).cast("string")
    name = F.element_at(F.array(*map(F.lit, WORDS)), (category + 1).cast("int"))
    for place, (adjectives, nouns) in enumerate(WORDS.values()):
        adjective = F.when(category == place, one_of(uniform(row, seed, "adjective"), adjectives)).otherwise(adjective)
        noun = F.when(category == place, one_of(uniform(row, seed, "noun"), nouns)).otherwise(noun)
    brand = one_of(uniform(row, seed, "brand"), BRANDS)
    number = F.floor(uniform(row, seed, "number") * 900 + 100).cast("string")
    return spark.range(0, items, 1, partitions).select(
        item_id(row).alias("item_id"),
        F.initcap(F.concat_ws(" ", adjective, noun, brand, number)).alias("title"),
        name.alias("category"),
        brand.alias("brand"),
    )


def write(rows: DataFrame, folder: Path, file_format: str) -> None:
    """Write rows as CSV (with a header in each file) or Parquet, in place of what is there."""
    writer = rows.write.mode("overwrite")
    (writer.csv(str(folder), header=True) if file_format == "csv" else writer.parquet(str(folder)))


def main(argv: list[str] | None = None) -> int:
    """Write a log and a catalogue; return the exit code."""
    from lt_spark.core.config import Config
    from lt_spark.core.session import start_session

    parser = argparse.ArgumentParser(description="Generate a log and a catalogue of any size.")
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder of the two new folders")
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--partitions", type=int, help="files of the log (default: one a million events)")
    arguments = parser.parse_args(argv)
    for name in ("events", "users", "items"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name}: expected a number of at least 1, found {getattr(arguments, name)}")
    partitions = arguments.partitions or -(-arguments.events // ROWS_PER_FILE)
    spark = start_session(Config(), "generate")
    log = interactions(spark, arguments.events, arguments.users, arguments.items, arguments.seed, partitions)
    items = catalogue(spark, arguments.items, arguments.seed, -(-arguments.items // ROWS_PER_FILE))
    write(log, arguments.out / "interactions", arguments.format)
    write(items, arguments.out / "items", arguments.format)
    print(f"{arguments.out / 'interactions'}: {arguments.events:,} events")
    print(f"{arguments.out / 'items'}: {arguments.items:,} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
