"""The command line ``lt-spark``."""

import platform
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from lt_spark import cli_output as output
from lt_spark.cli_options import ConfigOption, JsonOption, SetOption, check_stage, new_run_id, start, storage_of
from lt_spark.cli_text import enrich_quality, models_app, review_app
from lt_spark.core.config_files import LoadedConfig, load_config
from lt_spark.core.errors import ConfigError, LtSparkError, StorageError
from lt_spark.core.versions import check_pyspark
from lt_spark.tracking import track_run

DEFAULT_CONFIG = "lt-spark.yaml"
HIDDEN = "•••"
USER_ID_COLUMNS = ("user_id", "user_hash")
SHOWN_COLUMNS = 12
"""A table is shown with its first so many columns: more would leave each no room."""
_PACKAGES = ("lt-spark", "pyspark", "delta-spark", "pyarrow", "pandas", "numpy")
_PLATFORM_MODULES = ("pyspark", "delta", "pyarrow", "pandas", "numpy")


class _Group(TyperGroup):
    """The top command: turns errors into messages and exit codes, and takes --debug anywhere."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        args = list(sys.argv[1:] if args is None else args)
        options = args[: args.index("--")] if "--" in args else args
        if "--debug" in options:
            args.remove("--debug")
            args.insert(0, "--debug")
        return super().main(args, *rest, **extra)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if type(error).__module__.startswith(("typer", "click")):
                raise
            message, code = _told(error)
            if ctx.params.get("debug"):
                traceback.print_exc()
        sys.stderr.write(message + "\n")
        raise typer.Exit(code)


def _told(error: BaseException) -> tuple[str, int]:
    """Return what to say of an error, and the exit code: 2 the user's mistake, 1 ours."""
    if isinstance(error, LtSparkError):
        return f"{type(error).__name__}: {error}", 2
    if isinstance(error, KeyboardInterrupt):
        return "Stopped. Run the same command again: stages that are done are not run again.", 1
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _PLATFORM_MODULES:
        return f"{error.name} is not installed. Run: pip install 'lt-spark[local]'", 2
    lines = str(error).strip().splitlines()
    what = lines[0][:300] if lines else ""
    return (
        f"{type(error).__name__}: {what}\nThis is a fault of ours, not of your settings or data. Run with --debug "
        "for the details, and report them."
    ), 1


app = typer.Typer(
    name="lt-spark",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Recommendations in which the long tail is found: from a log and a catalogue to Delta tables.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the configuration.")
app.add_typer(config_app, name="config")
app.add_typer(models_app, name="models")
app.add_typer(review_app, name="review")
app.command(name="enrich-quality")(enrich_quality)

Purpose = Literal["evaluate", "produce", "both"]


@app.callback()
def _top(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")] = False,
) -> None:
    """Recommendations in which the long tail is found: from a log and a catalogue to Delta tables."""


@app.command()
def run(
    config: ConfigOption = DEFAULT_CONFIG,
    purpose: Annotated[
        Purpose, typer.Option(help="evaluate: measure on held-out events; produce: recommend for everyone; both.")
    ] = "both",
    first: Annotated[str | None, typer.Option("--from", help="First stage.", metavar="STAGE")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last stage.", metavar="STAGE")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only this stage; may be repeated.", metavar="STAGE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages that are up to date too.")] = False,
    go_on: Annotated[
        bool, typer.Option("--continue", help="Go on with stages that their budget stopped, with a new budget.")
    ] = False,
    renew_examples: Annotated[
        bool, typer.Option("--renew-examples", help="Make a new pool of examples for the language model.")
    ] = False,
    overrides: SetOption = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would run, why and how long; run nothing, but ask the language model 32 times where it has "
            "work, for what that will take.",
        ),
    ] = False,
    run_id: Annotated[str | None, typer.Option(help="Id of the run; that of a killed run takes its lock over.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    as_json: JsonOption = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Progress as JSON lines on standard error.")] = False,
) -> None:
    """Run the pipeline, or a part of it; what is up to date is not run again."""
    loaded = load_config(config, overrides or ())
    _need_interactions(loaded, config)
    for name in (first, last, *(only or ())):
        check_stage(name)
    import lt_spark

    spark = start(loaded)
    choice: dict[str, Any] = {"purpose": purpose, "stages": only or None, "first": first, "last": last, "force": force}
    choice |= {"go_on": go_on, "renew_examples": renew_examples}
    if dry_run:
        planned = lt_spark.plan(spark, loaded.config, **choice)
        probe = lt_spark.probe(spark, loaded.config, planned)
        if as_json:
            output.print_json({"stages": [asdict(stage) for stage in planned], "describe": probe and asdict(probe)})
        else:
            output.stdout().print(output.plan_table(planned))
            output.stdout().print(output.plan_total(planned))
            for line in output.probe_lines(planned, probe):
                output.stdout().print(line, soft_wrap=True)
        return
    run_id = run_id or new_run_id()
    with output.ProgressDisplay(run_id, quiet=quiet, log_json=log_json) as listener:
        summary = lt_spark.run(spark, loaded.config, run_id=run_id, listener=listener, **choice)
        if note := track_run(spark, loaded.config, summary):
            summary = replace(summary, notes=[*summary.notes, note])
    if as_json:
        output.print_json(asdict(summary))
    elif not quiet:
        output.print_summary(summary, loaded.config, output.arguments(config, overrides or ()))


@app.command()
def ledger(
    config: ConfigOption = DEFAULT_CONFIG,
    overrides: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table.")] = False,
    as_json: JsonOption = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print one wide table in markdown.")] = False,
    all_models: Annotated[bool, typer.Option("--all-models", help="Show all models, not als and blend alone.")] = False,
) -> None:
    """Measure what weights, text and each model are worth, and let the gate choose what produce uses."""
    loaded = load_config(config, overrides or ())
    _need_interactions(loaded, config)
    spark = start(loaded)
    from lt_spark import cli_ledger, experiments

    with output.ProgressDisplay(new_run_id(), quiet=quiet, log_json=False) as listener:
        rows = experiments.run_ledger(spark, loaded.config, listener=listener)
    if as_json:
        output.print_json({"ledger": rows})
    elif as_markdown:
        typer.echo(cli_ledger.markdown(rows, all_models=all_models))
    elif not quiet:
        cli_ledger.print_ledger(rows, all_models=all_models)


@app.command()
def stages(as_json: JsonOption = False) -> None:
    """List the stages: what each reads and writes."""
    check_pyspark()
    from lt_spark.pipeline import STAGES

    rows = [
        {
            "stage": stage.name,
            "does": stage.title,
            "folds": list(stage.folds or ()),
            "reads": [table.full_name for table in stage.reads],
            "writes": [table.full_name for table in stage.writes],
        }
        for stage in STAGES
    ]
    if as_json:
        output.print_json({"stages": rows})
        return
    cells = [
        (row["stage"], row["does"], ", ".join(row["folds"]), "\n".join(row["reads"]), "\n".join(row["writes"]))
        for row in rows
    ]
    output.stdout().print(output.grid(("stage", "does", "folds", "reads", "writes"), cells))


@app.command()
def init(
    files: Annotated[
        list[str], typer.Argument(help="The log, and the catalogue where there is one.", metavar="FILE...")
    ],
    to: Annotated[str, typer.Option("--output", "-o", help="The file to write.", metavar="FILE")] = DEFAULT_CONFIG,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    encoder: Annotated[
        bool, typer.Option("--encoder/--no-encoder", help="Name a sentence encoder where one is there already.")
    ] = True,
) -> None:
    """Look at your files and write a commented configuration for them."""
    from lt_spark.engines.found_encoder import find_encoder
    from lt_spark.prepare.conf_text import conf_text, files_root
    from lt_spark.prepare.inspect import inspect_files, missing_message

    target = Path(to)
    if target.exists() and not force:
        raise ConfigError(
            f"{to} is there already, and is not overwritten. Give --force, or another name with --output."
        )
    inspection = inspect_files(files)
    found = find_encoder(files_root(inspection)) if encoder and inspection.catalogue is not None else None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(conf_text(inspection, found), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{to} cannot be written: {error.strerror or error}. Give another name with --output."
        ) from None
    load_config(to)
    out = output.stdout()
    rows = [(guess.key, output.cell(guess.value), guess.why) for guess in inspection.guesses]
    rows += [("embed.model", found.folder, found.why)] if found else []
    out.print(output.grid(("key", "guess", "because"), rows))
    for note in inspection.notes:
        out.print(f"Note: {note}")
    out.print(f"Written: {to}")
    if missing := missing_message(inspection, to):
        raise ConfigError(missing)
    out.print(f"Next: look at the guesses in it, then: lt-spark run {output.arguments(to, ())}", soft_wrap=True)


@config_app.command("check")
def config_check(config: ConfigOption = DEFAULT_CONFIG, overrides: SetOption = None) -> None:
    """Check a configuration: its keys, types, ranges, and that local source files are there."""
    loaded = load_config(config, overrides or ())
    _need_interactions(loaded, config)
    source = loaded.config.source
    parts = (
        ("source.interactions", source.interactions),
        ("source.items", source.items),
        ("source.users", source.users),
    )
    for key, part in parts:
        is_local = part.format != "table" and ":" not in part.path and not set("*?[{") & set(part.path)
        if part.path and is_local and not Path(part.path).expanduser().exists():
            raise ConfigError(
                f"{loaded.sources[f'{key}.path']}: {key}.path: expected a file or folder, found none at {part.path} "
                f"(from {Path.cwd()}). Correct the path; it is relative to the current folder."
            )
    n_set = sum(origin != "default" for origin in loaded.sources.values())
    output.stdout().print(f"{config} is right: {n_set} keys set, {len(loaded.sources) - n_set} left at their defaults.")


@config_app.command("show")
def config_show(
    config: ConfigOption = DEFAULT_CONFIG, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show every setting in force, and where it came from."""
    loaded = load_config(config, overrides or ())
    values = loaded.values()
    if as_json:
        output.print_json({key: {"value": values[key], "source": loaded.sources[key]} for key in values})
        return
    rows = [(key, repr(value), loaded.sources[key]) for key, value in values.items()]
    output.stdout().print(output.grid(("key", "value", "from"), rows))


@app.command()
def tables(config: ConfigOption = DEFAULT_CONFIG, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """List the tables that are there, with rows and Delta versions."""
    loaded = load_config(config, overrides or ())
    storage = storage_of(loaded)
    from lt_spark.core.tables import ALL_TABLES

    rows = [
        {
            "table": table.full_name,
            "rows": storage.count(table),
            "version": storage.version(table),
            "location": storage.location(table),
            "comment": table.comment,
        }
        for table in ALL_TABLES
        if storage.exists(table)
    ]
    if as_json:
        output.print_json({"tables": rows})
        return
    out = output.stdout()
    if rows:
        cells = [(row["table"], f"{row['rows']:,}", row["version"], row["comment"]) for row in rows]
        out.print(output.grid(("table", "rows", "version", "what"), cells, right=("rows", "version")))
    where = loaded.config.tables.catalog or loaded.config.tables.root
    out.print(f"{len(rows)} tables in {where}; {len(ALL_TABLES) - len(rows)} not written yet.")


@app.command()
def show(
    table: Annotated[str, typer.Argument(help="Name of a table, such as gold.recommendations.")],
    config: ConfigOption = DEFAULT_CONFIG,
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=1000, help="Rows to show.")] = 10,
    show_user_ids: Annotated[bool, typer.Option("--show-user-ids", help="Show the users' own ids.")] = False,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a few rows of a table; users' ids are hidden unless asked for."""
    from lt_spark.core.tables.find import find_table

    loaded = load_config(config, overrides or ())
    named = find_table(table)
    storage = storage_of(loaded)
    if not storage.exists(named):  # asked first: a failed read makes Spark log a stack trace
        raise StorageError(
            f"{named.full_name} is not at {storage.location(named)} yet: run the stage that writes it, which `lt-spark "
            "stages` names."
        )
    frame = storage.read(named)
    if named.key:
        frame = frame.orderBy(*named.key)
    found = [row.asDict(recursive=True) for row in frame.limit(rows).collect()]
    if not show_user_ids:
        for row in found:
            row.update({name: HIDDEN for name in USER_ID_COLUMNS if row.get(name) is not None})
    if as_json:
        output.print_json({"table": named.full_name, "rows": found})
        return
    out = output.stdout()
    out.print(f"{named.full_name}: {named.comment}")
    names = named.column_names[:SHOWN_COLUMNS]
    out.print(output.grid(names, [[output.cell(row[name]) for name in names] for row in found]))
    if more := named.column_names[SHOWN_COLUMNS:]:
        out.print(f"And {len(more)} columns more, which --json shows: {', '.join(more)}")
    if not show_user_ids and set(USER_ID_COLUMNS) & set(named.column_names):
        out.print("Users' ids are hidden; --show-user-ids shows them.")


@app.command()
def version() -> None:
    """Show the versions of lt-spark and of what it runs on."""
    out = output.stdout()
    for name in _PACKAGES:
        try:
            out.print(f"{name} {distribution_version(name)}")
        except PackageNotFoundError:
            out.print(f"{name} not installed")
    out.print(f"python {platform.python_version()}")


def _need_interactions(loaded: LoadedConfig, path: str) -> None:
    if not loaded.config.source.interactions.path:
        raise ConfigError(
            f"{path}: source.interactions.path is empty: expected the file, folder or table that has the log. "
            "`lt-spark init FILE...` writes a configuration for your files."
        )


def main() -> None:
    """Run the command line."""
    app()
