"""A tiny BERT of random numbers, and a log in which a history's word tells the next item's word."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lt_spark.core.config_text import EmbedConfig
from lt_spark.core.config_text_bert import TextBertConfig
from lt_spark.core.files import Folder
from lt_spark.engines.loaded import prepare_process
from lt_spark.engines.model_files import describe_folder, write_manifest
from lt_spark.models.text_bert import data
from lt_spark.models.text_bert.tower import Base

FIRST = "drill saw pan oven lamp bulb soap towel".split()
"""What a history says; the next item says the word of the same place in SECOND."""
SECOND = "screws blade dough tray shade socket brush hook".split()
COLOURS = "red green blue grey".split()
WORDS = [*FIRST, *SECOND, *COLOURS]


def write_tiny_bert(folder: Path, seed: int = 3, **options: Any) -> str:
    """Two layers, hidden size 32, words as tokens, and bytes of what is no word."""
    prepare_process()
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]"]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(WORDS)] * 3, trainer)
    raw.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=raw.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
        # a random network does not learn through it
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **options,
    )
    BertModel(config).save_pretrained(folder)
    write_manifest(folder, name="tiny-bert", source="test", revision="1")
    return str(folder)


def base_of(folder: str, **embed: Any) -> Base:
    return Base(folder, describe_folder(folder), EmbedConfig(model=folder, **embed))


def section(**changes: Any) -> TextBertConfig:
    """Settings under which the tiny model learns in a second."""
    given = {
        "method": "full",
        "epochs": 6,
        "patience": 6,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "temperature": 0.2,
        "max_tokens": 32,
        "item_max_tokens": 16,
        "history_items": 2,
        "lora_dropout": 0.0,
    }
    return TextBertConfig.model_validate(given | changes)


def titles() -> dict[int, str]:
    """Items 0..31 say a word of FIRST, 32..63 one of SECOND; in four colours."""
    words = [*FIRST, *SECOND]
    return {4 * at + nth: f"{colour} {word}" for at, word in enumerate(words) for nth, colour in enumerate(COLOURS)}


def write_log(
    folder: Path, *, n_users: int = 96, texts: dict[int, Any] | None = None, held_out: float = 0.0, **changes: Any
) -> Folder:
    """Write what Spark would: a user's history is an item of a word, the next item of the word's partner.

    Args:
        folder: where.
        n_users: users; each has one pair, and is a user of valid too.
        texts: titles of other items than ``titles()``.
        held_out: share of pairs that are kept for the classifier.
        changes: rows of a kind (``pairs=[...]``) instead.
    """
    random = np.random.default_rng(5)
    pairs, known, valid = [], [], []
    for user in range(n_users):
        place = user % len(FIRST)
        first = 4 * place + int(random.integers(4))
        nexts = 4 * (len(FIRST) + place) + random.permutation(4)
        pair = {"user_idx": user, "event_order": 2, "history": [first], "item_idx": int(nexts[0]), "weight": 1.0}
        pairs.append(pair | {"is_held_out": bool(random.random() < held_out), "hard": [4 * place + (first + 1) % 4]})
        known.append({"user_idx": user, "known": sorted([first, int(nexts[0])])})
        is_tail = int(nexts[2]) % 2 == 1
        valid.append(
            {
                "user_idx": user,
                "history": [first],
                "seen": sorted([first, int(nexts[0])]),
                "targets": [int(nexts[2])],
                "segments": ["cold" if is_tail else "head"],
                "top20": ["tail" if is_tail else "head"],
            }
        )
    catalogue = texts if texts is not None else titles()
    rows: dict[str, list[dict[str, Any]]] = {
        data.PAIRS: pairs,
        data.KNOWN: known,
        data.TEXTS: [{"item_idx": item, "text": text, "n_events": 3} for item, text in catalogue.items()],
        data.VALID: valid,
        data.ITEMS: [{"item_idx": item} for item in catalogue],
    }
    for kind, of_kind in (rows | changes).items():
        (folder / kind).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(of_kind, schema=data.SCHEMAS[kind]), folder / kind / "part.parquet")
    return Folder(str(folder))
