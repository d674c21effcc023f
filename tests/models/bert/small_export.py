"""What a training reads, written without Spark: windows, items and questions of a made-up catalogue."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lt_spark.core.config_models import BertConfig
from lt_spark.core.files import Folder
from lt_spark.models.bert.manifest import MANIFEST, SCHEMA_HASH, Manifest, Shard
from lt_spark.models.bert.task import TrainTask

SMALL = {
    "embedding_size": 16,
    "n_layers": 1,
    "n_heads": 2,
    "max_length": 6,
    "dropout": 0.1,
    "batch_size": 16,
    "epochs": 6,
    "patience": 6,
    "learning_rate": 0.01,
    "device": "cpu",
    "loader": "pyarrow",
}


def section(**changes: Any) -> BertConfig:
    return BertConfig(**{**SMALL, **changes})


@dataclass
class SmallExport:
    """A catalogue in which item i is followed by item i + 1: what a sequence model can learn and popularity cannot."""

    folder: Path
    n_items: int = 12
    n_users: int = 60
    length: int = 6
    n_shards: int = 2
    text_size: int = 4
    seed: int = 0

    def histories(self) -> list[list[int]]:
        draw = np.random.default_rng(self.seed)
        starts = draw.integers(0, self.n_items, self.n_users)
        lengths = draw.integers(3, self.length + 2, self.n_users)
        return [[int((s + at) % self.n_items) for at in range(n)] for s, n in zip(starts, lengths, strict=True)]

    def write(self) -> "SmallExport":
        histories = self.histories()
        self.write_windows({user: history[:-1] for user, history in enumerate(histories)})
        known = np.bincount([item for history in histories for item in history[:-1]], minlength=self.n_items)
        self.write_items(known)
        self.write_questions({user: (history[:-1], [history[-1]]) for user, history in enumerate(histories)})
        return self

    def write_windows(self, histories: dict[int, list[int]], weights: dict[int, float] | None = None) -> None:
        places = self.length + 1
        folder = self.folder / "windows"
        folder.mkdir(parents=True, exist_ok=True)
        Folder(str(folder)).mark(time.time())
        shards = []
        for number in range(self.n_shards):
            rows = []
            for user, history in histories.items():
                if user % self.n_shards != number or len(history) < 2:
                    continue
                newest = history[-places:]
                empty = places - len(newest)
                weight = [0.0] * empty + [(weights or {}).get(item, 1.0) for item in newest]
                rows.append((user, 0, [-1] * empty + newest, [0] * empty + list(range(1, len(newest) + 1)), weight))
            name = f"shard-{number}.parquet"
            columns = list(zip(*rows, strict=True)) if rows else [[]] * 5
            types = [pa.int32(), pa.int32(), pa.list_(pa.int32()), pa.list_(pa.int32()), pa.list_(pa.float32())]
            names = ["user_idx", "window", "items", "orders", "weights"]
            arrays = [pa.array(list(values), kind) for values, kind in zip(columns, types, strict=True)]
            pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), folder / name)
            shards.append(Shard(name if rows else "", len(rows)))
        n_rows = sum(shard.n_rows for shard in shards)
        n_events = sum(max(0, min(len(history), places) - 1) for history in histories.values())
        manifest = Manifest(
            "silver.interactions_augmented", 0, "valid", self.length, self.n_items, n_rows, n_events, SCHEMA_HASH,
            tuple(shards),
        )  # fmt: skip
        (folder / MANIFEST).write_text(manifest.to_json())

    def write_items(self, known: Any, vectors: list[list[float] | None] | None = None) -> None:
        draw = np.random.default_rng(7)
        if vectors is None:
            vectors = [list(row) for row in draw.normal(size=(self.n_items, self.text_size)).astype(float)]
        table = pa.table(
            {
                "item_idx": pa.array(range(self.n_items), pa.int32()),
                "n_known": pa.array(np.asarray(known, np.float32)),
                "is_recommendable": pa.array([True] * self.n_items),
                "vector": pa.array(vectors, pa.list_(pa.float32())),
            }
        )
        (self.folder / "items").mkdir(exist_ok=True)
        pq.write_table(table, self.folder / "items" / "part.parquet")

    def write_questions(self, asked: dict[int, tuple[list[int], list[int]]], tail_from: int = 6) -> None:
        table = pa.table(
            {
                "user_idx": pa.array(list(asked), pa.int32()),
                "items": pa.array([history[-self.length :] for history, _ in asked.values()], pa.list_(pa.int32())),
                "seen": pa.array([[] for _ in asked], pa.list_(pa.int32())),
                "targets": pa.array([targets for _, targets in asked.values()], pa.list_(pa.int32())),
                "is_tail": pa.array([[t >= tail_from for t in targets] for _, targets in asked.values()]),
            }
        )
        (self.folder / "questions").mkdir(exist_ok=True)
        pq.write_table(table, self.folder / "questions" / "part.parquet")

    def task(self, name: str = "run", **changes: Any) -> TrainTask:
        own = {key: changes.pop(key) for key in list(changes) if key in TrainTask.__dataclass_fields__}
        root = str(self.folder)
        return TrainTask(
            **{
                "section": section(**changes),
                "objective": "causal",
                "seed": 3,
                "windows": f"{root}/windows",
                "items": f"{root}/items",
                "questions": f"{root}/questions",
                "checkpoints": f"{root}/checkpoints/{name}",
                **own,
            }
        )


def losses(trained: Any) -> list[float]:
    return [epoch.loss for epoch in trained.epochs]


def as_json(path: Path) -> Any:
    return json.loads(path.read_text())
