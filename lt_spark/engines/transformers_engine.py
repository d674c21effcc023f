"""A language model in this process, on CPU or GPU: batched, common beginnings computed once, bad rows alone.

Imported on executors only, after ``loaded.prepare_process``.
"""

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lt_spark.core.errors import ConfigError
from lt_spark.engines import attention
from lt_spark.engines.base import Answer, Decoding, Prompt
from lt_spark.engines.batches import batches, halving, n_reused
from lt_spark.engines.choice import choose, draw, own_seed
from lt_spark.engines.drafts import N_GUESSES, Writing, read_next
from lt_spark.engines.model_files import ModelInfo
from lt_spark.engines.prefix import BatchCache, KeptBeginnings, KeysValues, bytes_of_a_token
from lt_spark.engines.scores import Scores, log_of_mean

COMPACT_BELOW = 0.75
"""A batch is made smaller once no more than this share of its rows is still being written."""
MAX_BATCH = {"cpu": 64, "cuda": 512}
"""Prompts generated at once, unless told: 512 take a GPU little more than twice as long as 64 (docs/speed.md)."""
BATCH_TOKENS = {"cpu": 32_768, "cuda": 524_288}
"""Padded tokens of a batch, unless told; on a GPU no more than ``MEMORY_SHARE`` has room for."""
MEMORY_SHARE = 0.5
"""Of a GPU's free memory, what the keys and values of a batch may take."""
READ_TOKENS_CPU = 2_048
"""Prompt tokens read at once: more do not stay in a core's cache (64 prompts at once take 1.7 times as long)."""
READ_TOKENS_CUDA = 16_384
"""The same on a GPU, where it only bounds memory."""
OTHERS_AT_ONCE = 16
"""Prompts of other items read at once."""
KNOWN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}


@dataclass(frozen=True)
class _Row:
    """A prompt as the model reads it, less the common beginning; ``seed`` is its own where answers are drawn."""

    tokens: list[int]
    seed: int


@dataclass(frozen=True)
class _Written:
    """What came of a row: tokens or an error."""

    tokens: list[int]
    seconds: float = 0.0
    error: str = ""


class TransformersEngine:
    """Generates with a transformers model, in a loop of its own.

    Attributes:
        name: transformers.
        model: the model's name as it stands in the tables.
        revision: its version.
        device: cpu, cuda:0.
        dtype: float32, bfloat16, float16.
        n_generated: tokens written since it was loaded.
    """

    name = "transformers"

    def __init__(
        self,
        folder: str,
        info: ModelInfo,
        *,
        dtype: str,
        device: str,
        max_batch: int | None = None,
        batch_tokens: int | None = None,
        reuse_prefix: bool = True,
        max_prompt_tokens: int = 3_072,
        sort: bool = True,
        draft: bool = True,
    ) -> None:
        """Load the model.

        Args:
            folder: local folder with safetensors, config and tokenizer.
            info: its name and version.
            dtype: number format, see ``placement.dtype``.
            device: see ``placement.device``.
            max_batch: most prompts generated at once; None: as many as suit the device, see ``MAX_BATCH``.
            batch_tokens: most padded tokens of a batch, prompt and answer; None: see ``BATCH_TOKENS``.
            reuse_prefix: whether the keys and values of a common beginning are computed once.
            max_prompt_tokens: a longer prompt fails.
            sort: whether prompts of like length are generated together.
            draft: whether tokens are guessed from the prompt and checked several at once.

        Raises:
            ConfigError: the model keeps something else than keys and values of its tokens.
        """
        self.model, self.revision, self.device, self.dtype = info.name, info.revision, device, dtype
        self.max_batch = max_batch or MAX_BATCH[torch.device(device).type]
        self.max_prompt_tokens = max_prompt_tokens
        self.reuse_prefix, self.sort = reuse_prefix, sort
        self.n_generated = 0
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
        self._model.to(torch.device(device)).eval()  # type: ignore[arg-type]
        text_config = self._model.config.get_text_config(decoder=True)
        kinds = set(getattr(text_config, "layer_types", None) or ())
        unknown = kinds - KNOWN_LAYERS
        if unknown:
            raise ConfigError(
                f"language_model.model {info.name}: its layers are of kind {', '.join(sorted(unknown))}, expected "
                f"attention only; serve it with vLLM and set language_model.engine: openai"
            )
        if device == "cpu":
            attention.use_for(self._model)
        # a window counts places, and a wrong guess leaves an empty one
        is_windowed = bool(kinds - {"full_attention"}) or getattr(text_config, "sliding_window", None) is not None
        self._drafts = draft and not is_windowed
        self.batch_tokens = batch_tokens or self._tokens_that_fit(
            bytes_of_a_token(text_config, self._model.dtype.itemsize)
        )
        self._n_layers = int(text_config.num_hidden_layers)
        # renamed within transformers 5
        names = inspect.signature(self._model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"
        self._bos = self._first_token()
        self._stops, self._n_newlines = self._endings()
        self.beginnings = KeptBeginnings(self._keys_values)
        self._scores = Scores(self._tokenizer)
        self._usual: tuple[tuple[Prompt, ...], torch.Tensor] | None = None

    def generate(self, prompts: Sequence[Prompt], decoding: Decoding) -> list[Answer]:
        """Answer each prompt; what fails is an answer with an error, and no fault of its neighbours.

        Args:
            prompts: in any order and of any length.
            decoding: how answers are drawn.

        Returns:
            As many answers as prompts, in their order. The answer of a prompt does not depend on the others, but
            for rounding.
        """
        tokens = self._encode([prompt.text for prompt in prompts])
        refused = {row: self._refusal(len(ids)) for row, ids in enumerate(tokens)}
        answers = {row: Answer("", error=why) for row, why in refused.items() if why}
        left = [row for row in range(len(prompts)) if row not in answers]
        n_kept = self._n_kept([prompts[row] for row in left], [tokens[row] for row in left])
        beginning = tokens[left[0]][:n_kept] if left else []
        rows = [_Row(tokens[row][n_kept:], own_seed(decoding, tokens[row])) for row in left]
        parts = batches(
            [len(row.tokens) for row in rows],
            n_fixed=n_kept + self._n_places(decoding),
            max_rows=self.max_batch,
            max_tokens=self.batch_tokens,
            sort=self.sort,
        )
        for part in parts:
            written = halving(
                [rows[at] for at in part],
                lambda batch: self._timed(beginning, batch, decoding),
                lambda _, name: _Written([], error=name),
                _error_name,
            )
            for at, result in zip(part, written, strict=True):
                answers[left[at]] = self._answer(result, len(tokens[left[at]]), decoding)
        return [answers[row] for row in range(len(prompts))]

    def move(self, device: str) -> None:
        """Go on at another device of the same kind; what the old one held is given back."""
        self._model.to(torch.device(device))  # type: ignore[arg-type]
        self.device, self.beginnings, self._usual = device, KeptBeginnings(self._keys_values), None
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text is, as part of a prompt."""
        return [len(ids) - len(self._bos) for ids in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise; what looks like a token of the template is ordinary text."""
        if not texts:
            return []
        encoded = self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids
        return [self._bos + list(ids) for ids in encoded]

    def _tokens_that_fit(self, n_bytes: int) -> int:
        """Return the padded tokens of a batch, where one's keys and values take so many bytes."""
        place = torch.device(self.device)
        if place.type != "cuda":
            return BATCH_TOKENS[place.type]
        free, _ = torch.cuda.mem_get_info(place)
        return max(1, min(BATCH_TOKENS["cuda"], int(free * MEMORY_SHARE) // n_bytes))

    def _first_token(self) -> list[int]:
        """Return the token that this model's texts begin with, if any."""
        bos = self._tokenizer.bos_token_id
        return [bos] if bos is not None and self._tokenizer("").input_ids[:1] == [bos] else []

    def _endings(self) -> tuple[set[int], dict[int, int]]:
        """Return the tokens that end an answer, and how many line ends a token holds, of those that hold any."""
        ends = self._model.generation_config.eos_token_id
        ends = {*(ends if isinstance(ends, list) else [ends]), self._tokenizer.eos_token_id} - {None}
        names = self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))
        # byte-level vocabularies write a line end as Ċ, others as itself or as its byte
        bearing = [at for at, name in enumerate(names) if name and any(sign in name for sign in ("Ċ", "\n", "<0x0A>"))]
        return ends, {at: self._tokenizer.decode([at]).count("\n") for at in bearing}

    def _n_kept(self, prompts: Sequence[Prompt], tokens: Sequence[list[int]]) -> int:
        """Return how many first tokens are common and worth keeping."""
        if not self.reuse_prefix or not prompts:
            return 0
        shared = {prompt.shared for prompt in prompts}
        return n_reused(tokens, self._encode([shared.pop()])[0] if len(shared) == 1 else None)

    def _refusal(self, n_tokens: int) -> str:
        """Return why a prompt cannot be read; empty where it can."""
        if n_tokens > self.max_prompt_tokens:
            return f"prompt of {n_tokens} tokens, at most {self.max_prompt_tokens}"
        return "" if n_tokens else "empty prompt"

    def _answer(self, written: _Written, n_prompt: int, decoding: Decoding) -> Answer:
        """Decode what was written."""
        self.n_generated += len(written.tokens)
        text = str(self._tokenizer.decode(written.tokens, skip_special_tokens=True))
        if decoding.max_lines:
            text = "\n".join(text.split("\n")[: decoding.max_lines])
        return Answer(text, n_prompt, len(written.tokens), written.seconds, written.error)

    def _timed(self, beginning: list[int], rows: list[_Row], decoding: Decoding) -> list[_Written]:
        """Generate one batch and share its time among its rows."""
        began = time.perf_counter()
        tokens = self._write(beginning, rows, decoding)
        seconds = (time.perf_counter() - began) / len(rows)
        return [_Written(ids, seconds) for ids in tokens]

    @torch.inference_mode()
    def _write(self, beginning: list[int], rows: list[_Row], decoding: Decoding) -> list[list[int]]:
        """Generate one batch; each row's tokens, without the one that ends it."""
        usual = self._usual_tokens(decoding)
        n_new, n_kept = decoding.max_new_tokens, len(beginning)
        end = n_kept + max(len(row.tokens) for row in rows)  # places of the batch that are filled
        room = end + self._n_places(decoding)
        ids, shown = self._padded(rows, n_kept, room)  # (rows, width), (rows, room)
        draws = draw([row.seed for row in rows], n_new).to(self.device) if decoding.temperature > 0 else None
        cache, logits = self._read(beginning, ids, shown)
        written = [Writing(at, [*beginning, *row.tokens], decoding) for at, row in enumerate(rows)]
        live = written  # the rows that the batch still holds
        for step in range(n_new):
            drawn = None if draws is None else draws[[row.place for row in live], step]
            chosen = self._next_tokens(logits, live, decoding, usual, drawn)
            n_true = [row.take(tokens, self._stops, self._n_newlines) for row, tokens in zip(live, chosen, strict=True)]
            if step:  # guesses that were wrong are never seen again
                places = torch.arange(len(chosen[0]), device=self.device)
                shown[:, end - len(places) : end] = places < torch.tensor(n_true, device=self.device).unsqueeze(1)
            n_going = sum(row.is_going for row in live)
            if not n_going:
                break
            if n_going <= COMPACT_BELOW * len(live):
                kept = torch.tensor([at for at, row in enumerate(live) if row.is_going], device=self.device)
                cache.keep_rows(kept)
                shown, live = shown[kept], [row for row in live if row.is_going]
            n_left = n_new - min(len(row.tokens) for row in live if row.is_going)
            # each token that is left needs a place, however badly is guessed
            n_guesses = min(N_GUESSES, n_left - 1, room - end - n_left) if self._guesses(decoding) else 0
            read = read_next(live, max(0, n_guesses))
            n_read = torch.tensor([row.n_read for row in live], device=self.device)
            positions = n_read.unsqueeze(1) + torch.arange(len(read[0]), device=self.device)
            end += len(read[0])
            next_ids = torch.tensor(read, device=self.device)
            logits = self._forward(next_ids, shown[:, :end], positions, cache, len(read[0]))
        return [row.tokens for row in written]

    def _usual_tokens(self, decoding: Decoding) -> torch.Tensor | None:
        """Return how likely each token begins any item's answer, by the log of its mean over the others' prompts."""
        if not decoding.calibration or not decoding.others:
            return None
        if self._usual is None or self._usual[0] != decoding.others:
            tokens = self._encode([prompt.text for prompt in decoding.others])
            tokens = [ids for ids in tokens if not self._refusal(len(ids))]
            if not tokens:
                return None
            n_kept = self._n_kept(decoding.others, tokens)
            rows = sorted((_Row(ids[n_kept:], 0) for ids in tokens), key=lambda row: len(row.tokens))
            found = []
            for start in range(0, len(rows), OTHERS_AT_ONCE):
                some = rows[start : start + OTHERS_AT_ONCE]
                ids, shown = self._padded(some, n_kept, n_kept + len(some[-1].tokens))
                _, logits = self._read(tokens[0][:n_kept], ids, shown)
                found.append(logits[:, -1].float().softmax(-1))
            self._usual = decoding.others, log_of_mean(torch.cat(found))
        return self._usual[1]

    def _next_tokens(
        self,
        logits: torch.Tensor,
        live: list[Writing],
        decoding: Decoding,
        usual: torch.Tensor | None,
        drawn: torch.Tensor | None,
    ) -> list[list[int]]:
        """Return each row's next token, and those after its guesses: (rows, tokens read in the last step)."""
        if decoding.presence_penalty:
            self._scores.penalise(logits[:, -1], live, decoding.presence_penalty)
        if drawn is None:
            chosen: list[list[int]] = choose(logits).tolist()
        else:
            chosen = choose(logits[:, -1], decoding.temperature, drawn).unsqueeze(1).tolist()
        if usual is not None:
            places, scores = self._scores.calibrated(logits, live, usual, decoding.calibration, self._n_newlines)
            own = None if drawn is None else drawn[[row for row, _ in places]]
            for (row, place), token in zip(places, choose(scores, decoding.temperature, own).tolist(), strict=True):
                chosen[row][place] = token
        return chosen

    def _n_places(self, decoding: Decoding) -> int:
        """Return the places of an answer in its batch: those of its tokens, and as many for wrong guesses."""
        return decoding.max_new_tokens * (2 if self._guesses(decoding) else 1)

    def _guesses(self, decoding: Decoding) -> bool:
        """Whether tokens are guessed: not where they are drawn, nor where words said before are not to come again."""
        return self._drafts and decoding.temperature == 0 and not decoding.presence_penalty

    def _read(self, beginning: list[int], ids: torch.Tensor, shown: torch.Tensor) -> tuple[BatchCache, torch.Tensor]:
        """Read the prompts, some rows at a time; return their keys and values, and the logits of what comes next."""
        n_kept, width = len(beginning), ids.shape[1]
        kept = self.beginnings.of(beginning) if beginning else None
        positions = n_kept + (shown[:, n_kept : n_kept + width].cumsum(1) - 1).clamp(min=0)
        n_rows = max(1, (READ_TOKENS_CPU if self.device == "cpu" else READ_TOKENS_CUDA) // width)
        caches, logits = [], []
        for some in torch.split(torch.arange(len(ids), device=self.device), n_rows):
            cache = BatchCache(self._n_layers, shown.shape[1], len(some), kept)
            logits.append(self._forward(ids[some], shown[some, : n_kept + width], positions[some], cache))
            caches.append(cache)
        return BatchCache.joined(caches), torch.cat(logits)

    def _padded(self, rows: list[_Row], n_kept: int, room: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows' tokens padded on the left, and which places of the whole room hold a token."""
        width = max(len(row.tokens) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        shown = torch.ones(len(rows), room, dtype=torch.long)
        for at, row in enumerate(rows):
            n_pad = width - len(row.tokens)
            ids[at, n_pad:] = torch.tensor(row.tokens)
            shown[at, n_kept : n_kept + n_pad] = 0
        return ids.to(self.device), shown.to(self.device)

    def _forward(
        self, ids: torch.Tensor, shown: torch.Tensor, positions: torch.Tensor, cache: BatchCache, n_last: int = 1
    ) -> torch.Tensor:
        """Return the logits of the last places, (rows, places, vocabulary)."""
        output = self._model(
            input_ids=ids,
            attention_mask=shown,
            position_ids=positions,
            use_cache=True,
            logits_to_keep=n_last,
            **{self._cache_name: cache},
        )
        logits: torch.Tensor = output.logits[:, -n_last:]
        return logits

    @torch.inference_mode()
    def _keys_values(self, tokens: Sequence[int]) -> KeysValues:
        """Compute the keys and values of a beginning."""
        cache = BatchCache(self._n_layers, len(tokens), 1)
        ids = torch.tensor([list(tokens)], device=self.device)
        self._forward(ids, torch.ones_like(ids), torch.arange(len(tokens), device=self.device).unsqueeze(0), cache)
        return cache.keys_values()


def _error_name(error: Exception) -> str:
    """Return what is told of an error: its kind, never its text, which may hold a prompt's.

    Raises:
        Exception: the GPU itself failed: nothing more can be done in this process, and the task is to be run again.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "out of memory" in str(error).lower():
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        return "out of memory"
    broken = getattr(torch, "AcceleratorError", None)
    if broken is not None and isinstance(error, broken):
        raise error
    return type(error).__name__
