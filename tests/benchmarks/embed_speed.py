"""How fast items are embedded: the pipeline's path against the bare encoder, in one run.

    python tests/benchmarks/embed_speed.py --model FOLDER --items CSV [--column title] [--processes 2] [--rows N]

`bare` is what one would write around a sentence encoder: texts sorted by length, batches of a fixed number of rows,
mean pooling, in as many processes of one thread. `pipeline` is the function that the UDF calls, with the same
Arrow batches in and out: cleaning, tokens, batches by tokens, vectors as lists. Rates are steady: the model is loaded,
and warmed up, before the clock runs. Each variant runs `--repeats` times, in turn; the best counts. Both run on the
first GPU where there is one (CUDA_VISIBLE_DEVICES= hides it).
"""

import argparse
import csv
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lt_spark.core.config_text import EmbedConfig
from lt_spark.engines.make import load_encoder
from lt_spark.enrich.embed import CHUNK_ROWS, encode_batches

ARROW_ROWS = 10_000
"""Rows of an Arrow batch, as Spark hands them over."""
VARIANTS = ("bare", "bare unsorted", "pipeline", "pipeline unsorted")


class InOrder:
    """The encoder fed with so few texts at once that sorting inside a call changes little: sorting off."""

    def __init__(self, encoder: Any, rows: int) -> None:
        self._encoder, self._rows = encoder, rows

    def try_encode(self, texts: Sequence[str]) -> tuple[Any, Any]:
        parts = [self._encoder.try_encode(texts[n : n + self._rows]) for n in range(0, len(texts), self._rows)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def bare(model: Any, tokenizer: Any, texts: list[str], section: EmbedConfig, rows: int, is_sorted: bool) -> int:
    """Encode as a plain script does; return the number of vectors."""
    import torch

    order = sorted(range(len(texts)), key=lambda n: -len(texts[n])) if is_sorted else range(len(texts))
    vectors = np.empty((len(texts), model.config.hidden_size), np.float32)
    for start in range(0, len(texts), rows):
        places = list(order[start : start + rows])
        tokens = tokenizer(
            [texts[n] for n in places],
            padding=True,
            truncation=True,
            max_length=section.max_tokens,
            return_tensors="pt",
        ).to(model.device)
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[places] = torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()
    return len(vectors)


def arrow(texts: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the texts as Spark hands them over."""
    for start in range(0, len(texts), ARROW_ROWS):
        part = texts[start : start + ARROW_ROWS]
        yield pa.RecordBatch.from_arrays([pa.array([str(n) for n in range(len(part))]), pa.array(part)], ["h", "text"])


def work(
    folder: str, dtype: str, texts: list[str], rows: int, budget: int, repeats: int, line: Any, results: Any
) -> None:
    """One process: load, then run each variant when all processes are ready; put its seconds into the queue."""
    import torch

    torch.set_num_threads(1)
    section = EmbedConfig(model=folder, dtype=dtype, batch_tokens=budget)  # type: ignore[arg-type]
    began = time.perf_counter()
    encoder = load_encoder(section, folder).value
    load_s = time.perf_counter() - began
    model, tokenizer = encoder._model, encoder._tokenizer
    in_order = InOrder(encoder, rows)
    runs = {
        "bare": lambda: bare(model, tokenizer, texts, section, rows, True),
        "bare unsorted": lambda: bare(model, tokenizer, texts, section, rows, False),
        "pipeline": lambda: sum(b.num_rows for b in encode_batches(arrow(texts), section, folder)),
        "pipeline unsorted": lambda: sum(
            b.num_rows for b in encode_batches(arrow(texts), section, folder, lambda section, folder: in_order)
        ),
    }
    encoder.encode(texts[:CHUNK_ROWS])
    for _ in range(repeats):
        for name in VARIANTS:
            line.wait()
            began = time.perf_counter()
            done = runs[name]()
            results.put((name, done, time.perf_counter() - began, load_s, encoder.device))


def compare(folder: str, texts: list[str], dtype: str, other: str) -> str:
    """Say how far the vectors of two number formats lie apart, and what that does to the nearest items."""
    from lt_spark.kernels.topk import top_k

    one, two = (
        load_encoder(EmbedConfig(model=folder, dtype=name), folder).value.encode(texts)  # type: ignore[arg-type]
        for name in (dtype, other)
    )
    apart = np.abs(1 - (one * two).sum(axis=1))
    near = [top_k(vectors, vectors, 11)[0] for vectors in (one, two)]
    overlap = np.mean([len(set(a) & set(b)) / 11 for a, b in zip(*near, strict=True)])
    same = (near[0] == near[1]).all(axis=1).mean()
    return (
        f"{other} against {dtype}: |1 - cos| at most {apart.max():.1e}, mean {apart.mean():.1e}; the ten nearest items "
        f"overlap by {overlap:.3f}, and are the same in the same order for {same:.0%} of {len(texts)} texts\n"
    )


def read_texts(arguments: argparse.Namespace) -> list[str]:
    """Return the texts of the CSV."""
    with open(arguments.items, encoding="utf-8", newline="") as file:
        return [row[arguments.column] for row in csv.DictReader(file)][: arguments.rows]


def measure(arguments: argparse.Namespace) -> tuple[dict[str, float], float, str]:
    """Return texts a second of each variant over all processes, the longest load, and the device."""
    texts = read_texts(arguments)
    context, n = multiprocessing.get_context("spawn"), arguments.processes
    line, results = context.Barrier(n), context.Queue()
    parts = [texts[place::n] for place in range(n)]
    settings = (arguments.batch_rows, arguments.batch_tokens, arguments.repeats)
    workers = [
        context.Process(target=work, args=(arguments.model, arguments.dtype, part, *settings, line, results))
        for part in parts
    ]
    for worker in workers:
        worker.start()
    best: dict[str, float] = dict.fromkeys(VARIANTS, 0.0)
    load_s, device = 0.0, ""
    for _ in range(arguments.repeats):
        for name in VARIANTS:
            said = [results.get() for _ in workers]
            if {part[0] for part in said} != {name} or sum(part[1] for part in said) != len(texts):
                sys.exit(f"{name}: expected {len(texts)} vectors of all processes, found {said}")
            best[name] = max(best[name], len(texts) / max(part[2] for part in said))
            load_s, device = max(load_s, *(part[3] for part in said)), said[0][4]
    for worker in workers:
        worker.join()
    return best, load_s, device


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print; exit code 1 where the pipeline's path is below 0.95 of the bare one."""
    parser = argparse.ArgumentParser(description="How fast items are embedded, against the bare encoder.")
    parser.add_argument("--model", required=True, help="folder of the encoder")
    parser.add_argument("--items", required=True, help="CSV of the items")
    parser.add_argument("--column", default="title", help="column of the text")
    parser.add_argument("--rows", type=int, help="first rows only")
    parser.add_argument("--dtype", default="float32", help="number format of both")
    parser.add_argument("--processes", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--batch-rows", type=int, default=32, help="rows of a bare batch")
    parser.add_argument("--batch-tokens", type=int, default=8_192, help="embed.batch_tokens")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each variant; the best counts")
    parser.add_argument("--compare", metavar="DTYPE", help="only compare the vectors with those of another format")
    arguments = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    if arguments.compare:
        sys.stdout.write(compare(arguments.model, read_texts(arguments), arguments.dtype, arguments.compare))
        return 0
    rates, load_s, device = measure(arguments)
    ratio = rates["pipeline"] / rates["bare"]
    sys.stdout.write(
        "".join(f"| {name} | {rate:,.0f} texts/s |\n" for name, rate in rates.items())
        + f"ratio pipeline / bare {ratio:.2f}; sorting {rates['pipeline']:,.0f} against "
        f"{rates['pipeline unsorted']:,.0f}; load {load_s:.1f} s, apart\n"
        f"{arguments.dtype} on {device}, {arguments.processes} processes of 1 thread\n"
    )
    return 0 if ratio >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
