"""Weights for a catalogue that has grown: old rows stay where item_idx puts them, new ones begin as they would anew."""

import torch

from lt_spark.core.errors import TrainingError
from lt_spark.core.files import Folder
from lt_spark.models.bert import checkpoint as saved
from lt_spark.models.bert.network import SequenceNetwork

_ROWS_BY_ITEM = "items.ids.weight"


def start_from(network: SequenceNetwork, folder: Folder) -> None:
    """Put the weights of an earlier training into a network of the same shape or of more items.

    Args:
        network: with random weights.
        folder: an epoch's checkpoint.

    Raises:
        TrainingError: it is not whole, of another shape (with the differences), or of more items.
    """
    parent, _, name = folder.uri.rpartition("/")
    found = saved.whole(Folder(parent), int(name.rpartition("-")[2]))
    if found is None:
        raise TrainingError(f"the checkpoint at {folder.uri} is not whole: expected one to go on from. Train anew.")
    differences = shape_differences(found, network)
    if differences:
        raise TrainingError(
            f"the checkpoint at {folder.uri} is of another network ({'; '.join(differences)}): set back what changed, "
            "or set bert.warm_start: false to train anew."
        )
    grown = saved.weights(found)
    old, new = grown[_ROWS_BY_ITEM], network.items.ids.weight
    with torch.no_grad():
        grown[_ROWS_BY_ITEM] = torch.cat([old, new[len(old) :].cpu()])
    network.load_state_dict(grown)


def shape_differences(found: saved.Checkpoint, network: SequenceNetwork) -> list[str]:
    """Return how a checkpoint's shape differs from a network's; more items in the network are no difference."""
    names = ("objective", "length", "embedding_size", "n_layers", "n_heads", "text_size")
    differences = [
        f"{name}: expected {getattr(network.shape, name)}, found {found.identity[name]}"
        for name in names
        if found.identity[name] != getattr(network.shape, name)
    ]
    if found.identity["n_items"] > network.shape.n_items:
        differences.append(f"n_items: expected at most {network.shape.n_items}, found {found.identity['n_items']}")
    return differences
