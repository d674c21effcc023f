"""Checkpoints: safetensors and JSON, one folder an epoch; one counts once its manifest, written last, is there.

What is random is drawn anew at each epoch from (seed, epoch, rank), so that an epoch's number stands for the random
states: a training that goes on from a checkpoint takes the steps that it would have taken.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from lt_spark.core.errors import StorageError, TrainingError
from lt_spark.core.files import Folder

MANIFEST = "manifest.json"
_MODEL, _OPTIMIZER, _STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_PREFIX = "epoch-"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint.

    Attributes:
        folder: where it lies.
        epoch: epochs that were trained, from 1.
        identity: what it was made of: the network's shape, the settings, the rows.
        state: what else the training knew.
    """

    folder: Folder
    epoch: int
    identity: dict[str, Any]
    state: dict[str, Any]


def save(
    root: Folder,
    epoch: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    identity: dict[str, Any],
    state: dict[str, Any],
) -> Checkpoint:
    """Write a checkpoint; the manifest last.

    Raises:
        StorageError: the disk is full; earlier checkpoints are as they were.
    """
    folder = root.child(f"{_PREFIX}{epoch:05d}")
    if folder.exists(MANIFEST):
        folder.remove_file(MANIFEST)
    folder.mark(time.time())
    files = {
        _MODEL: bytes_of({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}),
        _OPTIMIZER: bytes_of(_flat(optimizer)),
        _STATE: json.dumps(state, sort_keys=True).encode(),
    }
    for name, data in files.items():
        folder.write(name, data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {"format": 1, "epoch": epoch, "identity": identity, "sha256": hashes}
    folder.write(MANIFEST, json.dumps(manifest, sort_keys=True, indent=1).encode())
    return Checkpoint(folder, epoch, identity, state)


def epochs_in(root: Folder) -> list[int]:
    """Return the epochs that have a folder, whole or not, ascending."""
    found = [name.removeprefix(_PREFIX) for name in root.names() if name.startswith(_PREFIX)]
    return sorted(int(name) for name in found if name.isdigit())


def newest(root: Folder) -> Checkpoint | None:
    """Return the newest whole checkpoint, or None; one that is truncated is passed over for the one before."""
    for epoch in reversed(epochs_in(root)):
        found = whole(root, epoch)
        if found is not None:
            return found
    return None


def newest_state(root: Folder) -> dict[str, Any] | None:
    """Return what the newest checkpoint's training knew, or None; the weights beside it are not read."""
    for epoch in reversed(epochs_in(root)):
        folder = root.child(f"{_PREFIX}{epoch:05d}")
        try:
            if folder.exists(MANIFEST):
                state: dict[str, Any] = json.loads(folder.read(_STATE))
                return state
        except (StorageError, ValueError):  # pruned, or written anew, at this moment
            continue
    return None


def whole(root: Folder, epoch: int) -> Checkpoint | None:
    """Return the checkpoint of an epoch, or None where a file is missing or is not the one its manifest names."""
    folder = root.child(f"{_PREFIX}{epoch:05d}")
    try:
        manifest = json.loads(folder.read(MANIFEST))
        for name, expected in manifest["sha256"].items():
            if hashlib.sha256(folder.read(name)).hexdigest() != expected:
                return None
        return Checkpoint(folder, epoch, manifest["identity"], json.loads(folder.read(_STATE)))
    except (StorageError, ValueError, KeyError):
        return None


def check_identity(checkpoint: Checkpoint, expected: dict[str, Any]) -> None:
    """Check that a checkpoint is of the same network, settings and rows.

    Raises:
        TrainingError: with what differs.
    """
    names = sorted(
        name for name in {*checkpoint.identity, *expected} if checkpoint.identity.get(name) != expected.get(name)
    )
    if names:
        told = "; ".join(
            f"{name}: expected {expected.get(name)}, found {checkpoint.identity.get(name)}" for name in names
        )
        raise TrainingError(
            f"the checkpoint at {checkpoint.folder.uri} is of another training ({told}). Remove the folder, or set "
            "back what changed."
        )


def restore(checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and the optimiser's sums into place."""
    restore_network(checkpoint, network)
    _unflatten(optimizer, tensors_of(checkpoint.folder.read(_OPTIMIZER)))


def restore_network(checkpoint: Checkpoint, network: nn.Module) -> None:
    """Put a checkpoint's weights into a network of its shape.

    Raises:
        TrainingError: the weights do not fit.
    """
    try:
        network.load_state_dict(weights(checkpoint))
    except RuntimeError as error:
        raise TrainingError(
            f"the checkpoint at {checkpoint.folder.uri} does not fit the network: {str(error).splitlines()[-1].strip()}"
        ) from error


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return a checkpoint's weights by name, on the CPU.

    Raises:
        StorageError: the file is not safetensors.
    """
    try:
        return tensors_of(checkpoint.folder.read(_MODEL))
    except SafetensorError as error:
        raise StorageError(f"{_MODEL} at {checkpoint.folder.uri} is no safetensors file: {error}") from error


def prune(root: Folder, keep: set[int], n_newest: int = 2) -> None:
    """Remove the checkpoints but those of ``keep`` and the newest ones."""
    epochs = epochs_in(root)
    for epoch in set(epochs) - keep - set(epochs[-n_newest:]):
        root.child(f"{_PREFIX}{epoch:05d}").remove()


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's sums by ``<parameter>.<name>``; what it is set to comes from the settings."""
    state = optimizer.state_dict()["state"]
    return {
        f"{place}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for place, values in state.items()
        for name, value in values.items()
    }


def _unflatten(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    whole_state = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        place, _, field = name.partition(".")
        state.setdefault(int(place), {})[field] = value
    whole_state["state"] = state
    optimizer.load_state_dict(whole_state)
