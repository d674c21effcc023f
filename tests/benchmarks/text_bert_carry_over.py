"""Does what the text model learns on the head carry over to the tail and to cold items?

    python tests/benchmarks/text_bert_carry_over.py -c CONF [--set SECTION.KEY=VALUE ...] [--pairs N] [--users N]

Three towers, judged by NDCG@10 of a full ranking on the users of fold valid: the pretrained encoder untouched, trained
on all pairs, and trained on pairs whose target is head (segment_top20) only. Both trainings have the same budget of
pairs, settings and seed; each keeps its epoch of the best all + tail NDCG, as the stage does. Intervals are 95 % of the
paired Poisson bootstrap over users. The tables that the stage text_bert reads must be there:
`lt-spark run --purpose evaluate --to neighbours`. Nothing is written but scratch.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from lt_spark import text_bert_stage as ts
from lt_spark.core.config import Config
from lt_spark.core.config_files import load_config
from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.files import Folder
from lt_spark.core.runs import new_run_id
from lt_spark.core.session import start_session
from lt_spark.core.storage import Storage
from lt_spark.kernels.bootstrap import interval, partial_sums
from lt_spark.models.text_bert import data, judge
from lt_spark.models.text_bert.tower import build
from lt_spark.stages import Context

UNTOUCHED, ALL, HEAD = "untouched", "trained on all", "trained on head"
_REPLICATES = 2_000


def measure(c: Context, section: TextBertConfig) -> dict[str, judge.Judgement]:
    """Judge the three towers on the same users and items; epochs are told as they end."""
    base, found = ts.base_model(c), {}
    with c.scratch("texts") as texts_folder:
        texts = ts.written(c, ts.texts_of(c, section), texts_folder)
        for name, train_on in ((ALL, "all"), (HEAD, "head")):
            of = section.model_copy(update={"train_on": train_on})
            with c.scratch("rows") as rows:
                ts.write_rows(c, of, texts, rows)
                taught = ts.teach(c, of, base, rows, None)
                catalogue = taught.training.catalogue
                valid = data.read_valid(Folder(rows), catalogue)
            if name == ALL:
                untouched = build(base, of, n_steps=1, seed=c.config.core.seed)
                found[UNTOUCHED] = judge.judge(untouched, valid, catalogue)
            found[name] = judge.judge(taught.tower, valid, catalogue)
            chosen = next(row.epoch for row in taught.epochs if row.is_chosen)
            print(f"{name}: {len(taught.training.pairs):,} pairs, epoch {chosen} chosen", flush=True)
    return found


def lines(found: dict[str, judge.Judgement], seed: int) -> list[str]:
    """Return the report: means, differences from the untouched encoder, and head from all, with intervals."""
    text = [f"{'NDCG@10':28}" + "".join(f"{name:>34}" for name in judge.SEGMENTS)]
    counts = (f"{len(found[UNTOUCHED].values[segment]):,} users" for segment in judge.SEGMENTS)
    text.append(f"{'':28}" + "".join(f"{count:>34}" for count in counts))
    text += [_line(name, found[name], None, seed) for name in (UNTOUCHED, ALL, HEAD)]
    for name, other in ((ALL, UNTOUCHED), (HEAD, UNTOUCHED), (HEAD, ALL)):
        text.append(_line(f"{name.removeprefix('trained ')} - {other}", found[name], found[other], seed))
    return text


def _line(name: str, of: judge.Judgement, other: judge.Judgement | None, seed: int) -> str:
    cells = []
    for segment in judge.SEGMENTS:
        values = of.values[segment] - (other.values[segment] if other is not None else 0.0)
        cells.append(f"{_cell(of.users[segment], values, seed):>34}")
    return f"{name:28}" + "".join(cells)


def _cell(users: npt.NDArray[np.int32], values: npt.NDArray[np.float64], seed: int) -> str:
    if not len(values):
        return "no targets"
    bounds = interval(partial_sums(users, values[:, None], _REPLICATES, seed))
    return f"{values.mean():.4f} [{bounds.low[0]:.4f}, {bounds.high[0]:.4f}]"


def context(config: Config, section: TextBertConfig) -> Context:
    """Return the stage on fold valid, with scratch of this run's own."""
    spark = start_session(config, "text_bert_carry_over")
    storage = Storage(spark, config, new_run_id())
    c = Context(spark, config, storage, "text_bert", "valid", datetime.now(UTC).replace(tzinfo=None))
    c.tell = lambda said: print(f"  {said}", flush=True)
    print(f"{section.method}, at most {section.epochs} epochs of {section.max_pairs:,} pairs", flush=True)
    return c


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-c", "--config", required=True, help="configuration file (YAML)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="may be repeated")
    parser.add_argument("--pairs", type=int, help="pairs that each training learns from (text_bert.max_pairs)")
    parser.add_argument("--users", type=int, help="users of valid that judge (text_bert.max_valid_users)")
    arguments = parser.parse_args(argv)
    config = load_config(arguments.config, arguments.set).config
    given = {"max_pairs": arguments.pairs, "max_valid_users": arguments.users}
    changes = {name: value for name, value in given.items() if value is not None}
    section = TextBertConfig.model_validate(ts.section_of(config).model_dump() | changes | {"classify": False})
    c = context(config, section)
    found = measure(c, section)
    print("\n".join(lines(found, config.core.seed)))


if __name__ == "__main__":
    main()
