"""A run in MLflow: settings, metrics, table versions, the code's commit, where MLflow is installed and configured."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lt_spark.core.config_files import leaf_keys

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lt_spark.core.config import Config
    from lt_spark.passes import RunSummary

URI = "MLFLOW_TRACKING_URI"
"""Where this environment variable is set, runs are logged; ``databricks`` is the workspace's own server."""
RUN_ID_TAG = "lt_spark.run_id"
_METRICS = ("ndcg", "recall", "hit_rate", "tail_share", "coverage", "gini")
_HEALTH = ("tail_share", "coverage", "gini", "n_items_reached", "n_users")
_MAY_NAME_USERS = (".where",)
"""Settings that are not logged: a condition on the log's rows may name a user."""
_MOST_PARAMS = 100
"""What MLflow's servers take at once."""
_LONGEST = 500
"""Characters of a value: what every MLflow server takes."""


def track_run(spark: "SparkSession", config: "Config", summary: "RunSummary") -> str:
    """Log a run to MLflow where it is installed and ``MLFLOW_TRACKING_URI`` is set; else do nothing.

    Runs with the same run id, such as one job a stage, are one run there. Rows, ids and names of users, prompts and
    conditions on rows are never logged. What goes wrong is told and raises nothing: the tables are made already.

    Args:
        spark: the session of the run.
        config: its configuration.
        summary: what it did.

    Returns:
        A note for people; empty where there is nothing to say.
    """
    if not os.environ.get(URI) or all(event.kind == "up_to_date" for event in summary.stages):
        return ""
    if importlib.util.find_spec("mlflow") is None:
        return f"{URI} is set, and mlflow is not installed: the run was not logged (pip install mlflow-skinny)"
    try:
        _log(spark, config, summary)
    except Exception as error:  # noqa: BLE001 - a server that is away must not fail a run that is done
        first = (str(error).strip().splitlines() or [""])[0][:200]
        return f"the run was not logged to MLflow, or only in part: {type(error).__name__}: {first}"
    return ""


def changed_settings(config: "Config") -> dict[str, str]:
    """Return the settings that differ from the default, by key (``als.rank``), as text.

    Args:
        config: the configuration; conditions on source rows (``source.interactions.where``) are left out.
    """
    default = type(config)()
    values = {key: (_at(config, key), _at(default, key)) for key in leaf_keys(type(config))}
    return {
        key: str(value)[:_LONGEST]
        for key, (value, usual) in values.items()
        if value != usual and not key.endswith(_MAY_NAME_USERS)
    }


def metrics_of(rows: Sequence[Mapping[str, Any]], k: int) -> dict[str, float]:
    """Return metrics by name, ``test/blend/all/ndcg_at_10``.

    Args:
        rows: of ``silver.metrics``.
        k: the length of the lists; other lengths are left out.
    """
    return {
        f"{row['fold']}/{row['model_name']}/{row['segment']}/{row['metric']}_at_{k}": float(row["value"])
        for row in rows
        if row["k"] == k and row["metric"] in _METRICS and row["value"] is not None
    }


def health_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return what live lists reach by name, ``live/blend/tail_share_at_10``.

    Args:
        rows: of ``gold.tail_health``.
    """
    return {
        f"live/{row['model_name']}/{name}_at_{row['k']}": float(row[name])
        for row in rows
        for name in _HEALTH
        if row[name] is not None
    }


def commit_of(folder: Path) -> str:
    """Return the git commit of a checkout, ``-dirty`` behind it where files changed; empty where there is none.

    Args:
        folder: the root of the checkout, which has ``.git``.
    """
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return ""
    command = [git, "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _log(spark: "SparkSession", config: "Config", summary: "RunSummary") -> None:
    import mlflow

    params, metrics, tags = _told(spark, config, summary)
    outer = mlflow.active_run()  # a run that somebody opened around the pipeline gets this one as its child
    known = _known_run(mlflow, summary.run_id)
    opened = mlflow.start_run(
        run_id=known, run_name=None if known else f"lt_spark {summary.run_id}", nested=outer is not None
    )
    with opened:
        mlflow.set_tags(tags)
        left = iter(params.items())
        while part := dict(islice(left, _MOST_PARAMS)):
            mlflow.log_params(part)
        mlflow.log_metrics(metrics)


def _known_run(mlflow: Any, run_id: str) -> str | None:
    """Return MLflow's id of the run that an earlier job with the same run id logged, if there is one."""
    quote = '"' if "'" in run_id else "'"
    wanted = f"tags.`{RUN_ID_TAG}` = {quote}{run_id}{quote}"
    found = mlflow.search_runs(filter_string=wanted, max_results=1, output_format="list")
    return str(found[0].info.run_id) if found else None


def _told(
    spark: "SparkSession", config: "Config", summary: "RunSummary"
) -> tuple[dict[str, str], dict[str, float], dict[str, str]]:
    """Return params, metrics and tags of a run."""
    import lt_spark
    from lt_spark.core import tables as t
    from lt_spark.core.storage import Storage
    from lt_spark.stages import gate_k

    storage = Storage(spark, config)
    done = {(event.stage, event.fold): event.seconds for event in summary.stages if event.kind == "done"}
    metrics = {f"seconds/{stage}{f'/{fold}' if fold else ''}": seconds for (stage, fold), seconds in done.items()}
    for fold in ("valid", "test"):
        if ("evaluate", fold) in done:
            # a row a model, segment, k and metric
            metrics |= metrics_of([row.asDict() for row in storage.read(t.METRICS, fold).collect()], gate_k(config))
    if ("publish", "live") in done:
        health = storage.read(t.GOLD_TAIL_HEALTH)
        # a row a model
        metrics |= health_of([row.asDict() for row in health.where(health["run_id"] == summary.run_id).collect()])
    written = {name for event in summary.stages if event.kind == "done" for name in event.rows} & set(summary.tables)
    tags = {
        RUN_ID_TAG: summary.run_id,
        "lt_spark.version": lt_spark.__version__,
        "lt_spark.purpose": summary.purpose,
        "lt_spark.verdict": summary.verdict[:_LONGEST],
        "lt_spark.notes": " | ".join(summary.notes)[:_LONGEST],
        **{f"version.{name}": str(_version(storage, t.TABLES[name])) for name in sorted(written)},
    }
    if commit := commit_of(Path(lt_spark.__file__).resolve().parent.parent):
        tags["mlflow.source.git.commit"] = commit
    return changed_settings(config), metrics, {name: value for name, value in tags.items() if value}


def _version(storage: Any, table: Any) -> int:
    """Return the newest Delta version of a table that is there."""
    return int(storage.delta_unchecked(table).history(1).select("version").first()["version"])


def _at(model: Any, key: str) -> Any:
    for part in key.split("."):
        model = getattr(model, part)
    return model
