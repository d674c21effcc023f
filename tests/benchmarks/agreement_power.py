"""What the measure behind the text's verdict can see: texts known to be good, and known to be another item's.

    python tests/benchmarks/agreement_power.py DATA_FOLDER --model FOLDER [--keywords categories]

DATA_FOLDER has interactions.csv (user_id, item_id, timestamp) and items.csv (item_id, title and the column of
keywords). Tail items (outside 80 % of the events) get as text: their true keywords; another item's; the vote of the
five nearest titles of the head (what a fallback is made of); that vote where only every second item has its true
keywords. The last two events of a user are left out. Prints a markdown table: the mean gain over title alone, and
its t, for the agreement that the pipeline uses and for others.
"""

import argparse
import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lt_spark.core.config_text import EmbedConfig
from lt_spark.engines.make import load_encoder
from lt_spark.enrich.agreement import N_NEIGHBOURS, N_OTHERS, log_rank

MAX_LAG, MAX_HISTORY = 10, 50
Floats = npt.NDArray[np.float64]


def read(folder: Path, column: str) -> tuple[list[str], list[list[str]], list[list[int]]]:
    """Return titles, keywords, and histories without their last two events."""
    with (folder / "items.csv").open(encoding="utf-8", newline="") as file:
        items = list(csv.DictReader(file))
    place = {row["item_id"]: n for n, row in enumerate(items)}
    events: dict[str, list[tuple[float, int]]] = defaultdict(list)
    with (folder / "interactions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["item_id"] in place:
                events[row["user_id"]].append((float(row["timestamp"]), place[row["item_id"]]))
    histories = [[item for _, item in sorted(own)][:-2] for own in events.values()]
    # the first category is the same for all
    keywords = [[word.strip() for word in row[column].split(",")[1:] if word.strip()] for row in items]
    return [row["title"] for row in items], keywords, histories


def neighbours(histories: list[list[int]], counts: npt.NDArray[Any]) -> dict[int, list[int]]:
    """Return each item's strongest neighbours, as the pipeline finds them."""
    pairs: Counter[tuple[int, int]] = Counter()
    for history in histories:
        newest = history[-MAX_HISTORY:]
        for first, item in enumerate(newest):
            for other in newest[first + 1 : first + 1 + MAX_LAG]:
                if item != other:
                    pairs.update([(item, other), (other, item)])
    found: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for (item, other), c in pairs.items():
        found[item].append((-c / np.sqrt(counts[item] * counts[other]) * c / (c + 1), other))
    return {item: [other for _, other in sorted(near)[:N_NEIGHBOURS]] for item, near in found.items()}


def vote(vectors: Any, keywords: list[list[str]], voters: npt.NDArray[np.bool_]) -> list[list[str]]:
    """Return the keywords that three of the five nearest voters share."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -9)
    near = np.argsort(-np.where(voters, scores, -9), axis=1)[:, :5]
    counted = [Counter(word for voter in row for word in keywords[voter]) for row in near]
    return [[word for word, n in words.items() if n >= 3] for words in counted]


def measures(vectors: Any, measured: list[int], near: dict[int, list[int]], others: Any) -> dict[str, Floats]:
    """Return each measured item's value of each measure."""
    values: dict[str, list[float]] = defaultdict(list)
    for item in measured:
        scores = (vectors @ vectors[item]).astype(np.float64)
        scores[item] = -9
        own = scores[near[item]]
        rank = (scores[None, :] > own[:, None]).sum(axis=1)
        is_self = (others[None, :] == item) | (others[None, :] == np.array(near[item])[:, None])
        random = np.broadcast_to(scores[others], is_self.shape)
        values["agreement"].append(log_rank(own, random, is_self).mean())
        values["area under the curve"].append((random < own[:, None]).mean())
        values["recall@10"].append((rank < 10).mean())
        values["reciprocal rank"].append((1 / (1 + rank)).mean())
    return {name: np.array(of_items) for name, of_items in values.items()}


def report(folder: Path, model: str, column: str) -> str:
    """Return the table."""
    encoder = load_encoder(EmbedConfig(model=model), model).value
    titles, keywords, histories = read(folder, column)
    counts = np.bincount([item for history in histories for item in history], minlength=len(titles))
    order = np.argsort(-counts, kind="stable")
    is_tail = np.zeros(len(titles), bool)
    is_tail[order[np.cumsum(counts[order]) > 0.8 * counts.sum()]] = True
    near = neighbours(histories, counts)
    measured = [item for item in np.flatnonzero(is_tail) if item in near]
    random = np.random.default_rng(0)
    others, shuffled = random.permutation(len(titles))[:N_OTHERS], random.permutation(len(titles))
    plain = encoder.encode(titles)
    votes = vote(plain, keywords, ~is_tail & np.array([bool(words) for words in keywords]))
    half = [words if n % 2 else [] for n, words in enumerate(keywords)]
    texts = {
        "true keywords": keywords,
        "another item's": [keywords[n] for n in shuffled],
        "vote of five": votes,
        "half true": half,
        "half true, half vote": [words or votes[n] for n, words in enumerate(half)],
    }
    base = measures(plain, measured, near, others)
    lines = [["text", *base], ["---"] * (1 + len(base)), ["title alone", *(f"{v.mean():.4f}" for v in base.values())]]
    for name, words in texts.items():
        enriched = plain.copy()
        with_text = [item for item in np.flatnonzero(is_tail) if words[item]]
        enriched[with_text] = encoder.encode([f"{titles[item]}. {', '.join(words[item])}" for item in with_text])
        cells = []
        for key, values in measures(enriched, measured, near, others).items():
            gain = values - base[key]
            cells.append(f"{gain.mean():+.4f} (t {gain.mean() / gain.std() * np.sqrt(len(gain)):+.1f})")
        lines.append([name, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{len(measured)} tail items\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="What neighbour agreement can see.")
    parser.add_argument("folder", type=Path, help="has interactions.csv and items.csv")
    parser.add_argument("--model", required=True, help="folder of the encoder")
    parser.add_argument("--keywords", default="categories", help="column of items.csv, comma separated")
    arguments = parser.parse_args(argv)
    sys.stdout.write(report(arguments.folder, arguments.model, arguments.keywords))
    return 0


if __name__ == "__main__":
    sys.exit(main())
