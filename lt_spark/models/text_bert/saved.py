"""A trained tower as files: adapters alone, or a whole model; the manifest last, and another base model refused."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.errors import ConfigError, StorageError
from lt_spark.core.files import Folder
from lt_spark.models.text_bert.head import Head
from lt_spark.models.text_bert.tower import Base, Tower, build, weights_hash

MANIFEST = "manifest.json"
HEAD = "head.json"
FORMAT = 1
"""Version of the manifest's form."""
_ADAPTER, _MODEL = "adapter_model.safetensors", "model.safetensors"
"""As peft and transformers call them: both read the folder where the base model is at hand."""


@dataclass(frozen=True)
class Manifest:
    """What a saved tower is.

    Attributes:
        base: name of the base model.
        base_revision: its version; empty where it has none.
        base_sha256: hash of all its files.
        pooling: how token vectors become one.
        section: section ``text_bert`` that it was trained by.
        n_steps: steps of the training's plan.
        weights: name of the file of weights.
        sha256: hash of that file.
    """

    base: str
    base_revision: str
    base_sha256: str
    pooling: str
    section: TextBertConfig
    n_steps: int
    weights: str
    sha256: str

    @property
    def model(self) -> str:
        """Name for the tables: the base model, its revision, the method, and the start of the weights' hash."""
        revision = self.base_revision or self.base_sha256[:16]
        return f"{self.base}@{revision}+{self.section.method}-{self.sha256[:8]}"


def save(folder: Folder, tower: Tower, head: Head | None = None) -> Manifest:
    """Write a tower, and the classifier where there is one; a folder that a kill left half-written has no manifest.

    Args:
        folder: of this tower alone; what it held of another is overwritten.
        tower: the tower.
        head: the classifier.

    Raises:
        StorageError: where the folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    folder.remove_file(MANIFEST)
    folder.remove_file(HEAD)
    weights = to_bytes(tower.state())
    is_whole = tower.section.method == "full"
    folder.write(_MODEL if is_whole else _ADAPTER, weights)
    folder.remove_file(_ADAPTER if is_whole else _MODEL)
    for name, data in _configuration(tower).items():
        folder.write(name, data)
    if head is not None:
        folder.write(HEAD, head.to_json().encode())
    info = tower.base.info
    manifest = Manifest(
        info.name,
        info.revision,
        info.sha256,
        tower.base.embed.pooling,
        tower.section,
        tower.n_steps,
        _MODEL if is_whole else _ADAPTER,
        weights_hash(weights),
    )
    said = {"format": FORMAT, **manifest.__dict__, "section": tower.section.model_dump(mode="json")}
    folder.write(MANIFEST, (json.dumps(said, indent=2) + "\n").encode())
    return manifest


def read_manifest(folder: Folder) -> Manifest:
    """Read what a folder holds.

    Raises:
        StorageError: there is no whole tower, or one of another version.
    """
    if not folder.exists(MANIFEST):
        raise StorageError(
            f"{folder.uri} holds no tower: expected {MANIFEST}, which is written last, found "
            f"{', '.join(folder.names()) or 'nothing'}. Run the stage text_bert."
        )
    try:
        said: dict[str, Any] = json.loads(folder.read(MANIFEST))
        if said.pop("format") != FORMAT:
            raise ValueError(f"another format than {FORMAT}")
        return Manifest(**(said | {"section": TextBertConfig.model_validate(said["section"])}))
    except (ValueError, TypeError, KeyError, AttributeError, ValidationError) as error:
        raise StorageError(
            f"{MANIFEST} in {folder.uri} is not what this version writes: {error}. Run the stage text_bert again."
        ) from error


def load(folder: Folder, base: Base, device: str | None = None) -> Tower:
    """Load a saved tower, in evaluation mode.

    Args:
        folder: where ``save`` wrote it.
        base: the base model as it is now.
        device: auto, cpu or cuda; None: as its section says.

    Raises:
        ConfigError: it was trained on another base model, or with another pooling.
        StorageError: it is missing, not whole, or of another version.
    """
    manifest = read_manifest(folder)
    for what, expected, found in (
        ("model", manifest.base, base.info.name),
        ("sha256", manifest.base_sha256, base.info.sha256),
        ("pooling", manifest.pooling, base.embed.pooling),
    ):
        if expected != found:
            raise ConfigError(
                f"the tower in {folder.uri} was trained on another base model: embed.model has {what} {found}, "
                f"expected {expected}. Set embed.model back, or run the stage text_bert again."
            )
    weights = folder.read(manifest.weights)
    if weights_hash(weights) != manifest.sha256:
        raise StorageError(
            f"{manifest.weights} in {folder.uri} is not what its manifest says: expected sha256 {manifest.sha256}, "
            f"found {weights_hash(weights)}. Run the stage text_bert again."
        )
    from safetensors.torch import load as from_bytes

    section = manifest.section if device is None else manifest.section.model_copy(update={"device": device})
    tower = build(base, section, n_steps=manifest.n_steps, seed=0)
    tower.set_state(from_bytes(weights))
    return tower


def load_head(folder: Folder) -> Head | None:
    """Return the saved classifier; None where none was trained."""
    return Head.from_json(folder.read(HEAD).decode()) if folder.exists(HEAD) else None


def _configuration(tower: Tower) -> dict[str, bytes]:
    """Return the JSON files of peft or transformers beside the weights."""
    with tempfile.TemporaryDirectory() as place:
        if tower.section.method == "full":
            tower.model.config.save_pretrained(place)
        else:
            tower.model.peft_config["default"].save_pretrained(place)
        return {path.name: path.read_bytes() for path in sorted(Path(place).glob("*.json"))}
