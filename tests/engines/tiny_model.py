"""A tiny language model of random numbers, in a folder as ``lt-spark models fetch`` leaves them."""

from pathlib import Path

WORDS = (
    "Title Keywords Description steel filament printer nozzle candle soap glove lens tape resin mat drill bit".split()
)


def write_tiny_model(folder: Path) -> str:
    """Two layers, hidden size 32, byte-level tokens; it often writes line ends and now and then its end token."""
    from lt_spark.engines.loaded import prepare_process
    from lt_spark.engines.model_files import write_manifest

    prepare_process()
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([" ".join(WORDS), "\n".join(WORDS)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        initializer_range=0.4,
        tie_word_embeddings=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.encode("\n")[0]] *= 2.5
        model.lm_head.weight[tokenizer.eos_token_id] *= 1.5
    model.save_pretrained(folder)
    write_manifest(folder, name="Tiny", source="test", revision="1")
    return str(folder)
