"""The sequence model's loss on a CPU: its gradient made with it, against torch's own way.

    python -m tests.benchmarks.softmax_loss [--items 9000] [--rows 1500] [--size 128] [--pairs 20]

Prints the CPU seconds of loss and gradient, one thread, the two ways in turn, and their ratio's median.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lt_spark.models.bert.loss import full_softmax


def by_torch(outputs: Tensor, vectors: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of -log softmax, all scores at once."""
    return (cross_entropy(outputs @ vectors.T, targets, reduction="none") * weights).sum()


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("items", 9_000), ("rows", 1_500), ("size", 128), ("pairs", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    outputs = torch.randn(asked.rows, asked.size, requires_grad=True)
    vectors = torch.randn(asked.items, asked.size, requires_grad=True)
    targets, weights = torch.randint(0, asked.items, (asked.rows,)), torch.rand(asked.rows)
    ways = (by_torch, full_softmax)
    seconds: tuple[list[float], list[float]] = ([], [])
    for pair in range(asked.pairs + 1):
        for way, found in zip(ways, seconds, strict=True):
            started = time.process_time()
            torch.autograd.grad(way(outputs, vectors, targets, weights), (outputs, vectors))
            if pair:  # the first is to warm up
                found.append(time.process_time() - started)
    ratio = statistics.median(one / other for one, other in zip(*seconds, strict=True))
    torchs, ours = (statistics.median(found) for found in seconds)
    sys.stdout.write(f"torch {torchs:.3f} s, with its gradient {ours:.3f} s, ratio {ratio:.2f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
