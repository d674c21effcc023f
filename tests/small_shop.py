"""A small shop for end-to-end tests: users with a taste, a long tail, titles, times."""

import csv
import random
from pathlib import Path
from typing import Any

N_USERS, N_ITEMS, N_TASTES = 80, 60, 4


SMALL_BERT = {
    "blend": {"n": 15, "models": ["als", "neighbours", "bert", "popularity"]},
    "bert": {
        "embedding_size": 8,
        "n_layers": 1,
        "n_heads": 1,
        "max_length": 8,
        "epochs": 2,
        "batch_size": 32,
        "device": "cpu",
    },
}
"""Settings that add a sequence model, small and quick."""


def write_users(folder: Path, n_users: int = N_USERS) -> dict[str, Any]:
    """Write users.csv, in which every tenth user is missing, and return the settings that read it."""
    with (folder / "users.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "age", "town"])
        for user in range(n_users):
            if user % 10:
                writer.writerow([f"u{user:03d}", 18 + user % 40, ["Wien", "Köln «é»"][user % 2]])
    return {"path": str(folder / "users.csv"), "columns": {"groups": ["age", "town"]}}


def write_whole_shop(folder: Path) -> dict[str, Any]:
    """Write the shop with its users, and return the settings of the whole, undisturbed run that tests share."""
    settings = write_shop(folder)
    settings["source"]["users"] = write_users(folder)
    settings["evaluate"]["min_group_users"] = 8  # of the 80 users fewer than 40 are measured
    return settings


def write_shop(folder: Path, seed: int = 7, n_users: int = N_USERS) -> dict[str, Any]:
    """Write interactions.csv and items.csv, and return the settings that read them."""
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp"])
        for user in range(n_users):
            taste = user % N_TASTES
            start = 1_600_000_000 + draw.randrange(10**6)
            for place in range(draw.randrange(5, 14)):
                own = draw.random() < 0.8
                item = min(int(draw.paretovariate(0.9)) - 1, N_ITEMS // N_TASTES - 1) * N_TASTES
                item += taste if own else draw.randrange(N_TASTES)
                writer.writerow([f"u{user:03d}", f"0{item}", start + 3600 * place])
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "kind"])
        for item in range(N_ITEMS + 2):  # two items that nobody bought
            writer.writerow([f"0{item}", f"Thing {item} «é»", f"kind {item % N_TASTES}"])
    return {
        "source": {
            "interactions": {"path": str(folder / "interactions.csv")},
            "items": {"path": str(folder / "items.csv"), "columns": {"text": ["kind"]}},
        },
        "tables": {"root": str(folder / "tables")},
        "files": {"root": str(folder / "files")},
        "als_plain": {"ranks": [4, 8], "alphas": [10.0], "max_iter": 3},
        "als": {"max_iter": 3},
        "candidates": {"n": 20},
        "blend": {"n": 15, "models": ["als", "neighbours", "lexical", "popularity"]},
        "content": {"max_document_share": 0.5},
        "evaluate": {"ks": [5, 10], "n_replicates": 200},
        "gate": {"override": "accept"},
        "clean": {"max_rejected_share": 0.2},
    }
