"""What every script in jobs/ does: read the arguments, get the session, run the stages, print a line for each."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import lt_spark
from lt_spark.cli_output import event_line
from lt_spark.core.config_files import load_config
from lt_spark.core.errors import LtSparkError
from lt_spark.core.versions import check_pyspark
from lt_spark.tracking import track_run

if TYPE_CHECKING:
    from lt_spark.core.storage import Storage
    from lt_spark.passes import StageEvent

DONE, OUR_MISTAKE, USER_MISTAKE = 0, 1, 2
"""Exit codes: done; something unforeseen; something that the message says how to mend."""


def run_job(stages: tuple[str, ...] | None, argv: Sequence[str]) -> int:
    """Run stages of the pipeline under spark-submit, or under plain Python with a local session.

    Args:
        stages: names of stages as in ``lt_spark.pipeline``; None: all of them.
        argv: the command line without the script's name.

    Returns:
        The exit code: 0 done, 2 the user's mistake (one message on stderr, no stack trace unless ``--debug``), 1 ours.

    Raises:
        SystemExit: with code 2 where the command line cannot be read, with code 0 after ``--help``.
    """
    name = "run_pipeline" if stages is None else " ".join(stages)
    arguments = _parser(name).parse_args(argv)
    try:
        config = load_config(arguments.config, arguments.set).config
        check_pyspark()  # before anything that needs it is imported
        from lt_spark.core.session import start_session
        from lt_spark.core.storage import Storage

        spark = start_session(config, f"lt_spark {name}")
        summary = lt_spark.run(
            spark,
            config,
            purpose=arguments.purpose,
            stages=stages,
            force=arguments.force,
            go_on=arguments.go_on,
            renew_examples=arguments.renew_examples,
            run_id=arguments.run_id,
            listener=_Lines(Storage(spark, config)),
        )
        for note in filter(None, (*summary.notes, track_run(spark, config, summary))):
            sys.stdout.write(f"note: {note}\n")
    except LtSparkError as error:
        return _fail(f"{name}: {error}", USER_MISTAKE, arguments.debug)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0][:500]
        text = f"{name}: unforeseen {type(error).__name__}: {first}\nRun it again with --debug for the stack trace."
        return _fail(text, OUR_MISTAKE, arguments.debug)
    return DONE


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"{name.replace(' ', '_')}.py", description=f"lt_spark: {name}")
    parser.add_argument("--config", "-c", help="a YAML file; conf/base.yaml explains each key")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a setting; repeatable")
    parser.add_argument(
        "--purpose",
        choices=("evaluate", "produce", "both"),
        default="both",
        help="evaluate: folds valid and test; produce: fold live; both: all folds (the default)",
    )
    parser.add_argument("--force", action="store_true", help="run even what is up to date")
    parser.add_argument(
        "--continue", dest="go_on", action="store_true", help="go on with stages that their budget stopped"
    )
    parser.add_argument("--renew-examples", action="store_true", help="make a new pool of examples for describe")
    parser.add_argument("--run-id", help="continue this run, and take its lock over")
    parser.add_argument("--debug", action="store_true", help="show the stack trace of an error")
    return parser


class _Lines:
    """Prints a line a stage and fold as it ends: rows, seconds, where the tables are."""

    def __init__(self, storage: "Storage") -> None:
        self._storage = storage

    def __call__(self, event: "StageEvent") -> None:
        if event.kind == "start":
            return
        from lt_spark.core.tables import TABLES

        line = event_line(event)
        places = [self._storage.location(TABLES[table]) for table in event.rows if table in TABLES]
        if event.kind == "done" and places:
            line += f", at {', '.join(places)}"
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _fail(text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    sys.stderr.write(f"{text}\n")
    return code
