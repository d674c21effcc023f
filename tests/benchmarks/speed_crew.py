"""Processes that answer prompts at the same time: the product's engine alone, and the UDF one would write first."""

import multiprocessing
import sys
import time
from collections.abc import Sequence
from typing import Any

from lt_spark.engines.base import Answer, Decoding, Prompt
from lt_spark.engines.make import load_engine
from lt_spark.enrich.ask import AskSettings, make_asker

WARM_UP = 4
Row = dict[str, Any]
WARM_ROWS = [Prompt("", f"Title: steel drill bit {n}\n" * 20, "Keywords:") for n in range(WARM_UP)]


def prompts_of(rows: Sequence[Row]) -> list[Prompt]:
    """Return the rows' prompts."""
    return [Prompt(row["shared"], row["own"], row["start"]) for row in rows]


class Bare:
    """What a process of the product's side does: the engine alone, and gate and encoder alone."""

    def __init__(self, settings: AskSettings) -> None:
        """Load the engine."""
        began = time.perf_counter()
        section = settings.render.language_model
        self.engine: Any = load_engine(section, settings.model_folder, settings.model_info).value
        self.load_s = time.perf_counter() - began
        self.generate(WARM_ROWS, {}, Decoding(max_lines=2))

    def generate(self, prompts: Sequence[Prompt], switches: dict[str, Any], decoding: Decoding) -> list[Answer]:
        """Answer prompts with some switches set."""
        before = {name: getattr(self.engine, name) for name in switches}
        for name, value in switches.items():
            setattr(self.engine, name, value)
        answers: list[Answer] = self.engine.generate(prompts, decoding)
        for name, value in before.items():
            setattr(self.engine, name, value)
        return answers

    def load_judge(self, settings: AskSettings) -> list[Answer]:
        """Load the encoder and the pool's words."""
        self.asker = make_asker(settings)
        return []

    def judge(self, rows: Sequence[Row], texts: Sequence[str]) -> list[Answer]:
        """Judge answers that are there already, and make the rows of the table."""
        items = [[{name: row[name] for name in ("key", "item_idx", "content_hash")}] for row in rows]
        known = zip(rows, texts, items, strict=True)
        self.asker.rows([row | {"known_answer": text, "items": own} for row, text, own in known])
        return []


class Newcomer:
    """What one would write first: nothing of this package is in it."""

    def __init__(self, settings: AskSettings) -> None:
        """Load model and tokenizer, as they come."""
        from lt_spark.engines.placement import device, dtype

        self.device = device(settings.render.language_model.device)
        number_format = dtype(settings.render.language_model.dtype, self.device)
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        began = time.perf_counter()
        self.tokenizer = AutoTokenizer.from_pretrained(settings.model_folder)
        model = AutoModelForCausalLM.from_pretrained(settings.model_folder, dtype=getattr(torch, number_format))
        self.model = model.to(self.device)
        self.load_s = time.perf_counter() - began
        self.generate(WARM_ROWS[:1], False, Decoding(max_lines=2))

    def generate(self, prompts: Sequence[Prompt], is_cut: bool, decoding: Decoding) -> list[Answer]:
        """Answer row by row, the likeliest token always; of the decoding it takes the lengths alone."""
        from transformers import StoppingCriteriaList

        answers = []
        for prompt in prompts:
            inputs = self.tokenizer(prompt.text, return_tensors="pt").to(self.device)
            n = inputs.input_ids.shape[1]

            def is_done(ids: Any, scores: Any, n: int = n, **kwargs: Any) -> Any:
                import torch

                is_enough = self.tokenizer.decode(ids[0, n:]).count("\n") >= decoding.max_lines
                return torch.tensor([is_enough], device=ids.device)

            stop = StoppingCriteriaList([is_done]) if is_cut else None  # type: ignore[list-item]
            written = self.model.generate(
                **inputs, max_new_tokens=decoding.max_new_tokens, do_sample=False, stopping_criteria=stop
            )
            text = self.tokenizer.decode(written[0, n:], skip_special_tokens=True)
            answers.append(Answer(text, n, written.shape[1] - n))
        return answers


def work(kind: type[Bare] | type[Newcomer], settings: AskSettings, inbox: Any, outbox: Any) -> None:
    """One process: load, say how long that took, then do what is asked, one at a time, with its times."""
    import pyarrow  # noqa: F401 - before torch
    import torch

    torch.set_num_threads(1)
    worker = kind(settings)
    import threadpoolctl

    kernels = sorted(
        {f"{each['internal_api']} {each.get('architecture', '')}" for each in threadpoolctl.threadpool_info()}
    )
    model = worker.engine._model if isinstance(worker, Bare) else worker.model
    place = torch.cuda.get_device_name() if model.device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    outbox.put((worker.load_s, f"{str(model.dtype).removeprefix('torch.')}, torch {place}, {', '.join(kernels)}"))
    for name, arguments in iter(inbox.get, None):
        wall, cpu = time.perf_counter(), time.process_time()
        answers = getattr(worker, name)(*arguments)
        outbox.put((time.perf_counter() - wall, time.process_time() - cpu, answers))


class Crew:
    """Processes of one kind, at work at the same time."""

    def __init__(self, kind: type[Bare] | type[Newcomer], settings: AskSettings, n: int) -> None:
        """Start them, and wait until all have loaded."""
        context = multiprocessing.get_context("spawn")
        self.inboxes = [context.Queue() for _ in range(n)]
        self.outboxes = [context.Queue() for _ in range(n)]
        self.workers = [
            context.Process(target=work, args=(kind, settings, *boxes), daemon=True)
            for boxes in zip(self.inboxes, self.outboxes, strict=True)
        ]
        for worker in self.workers:
            worker.start()
        said = [self._get(at) for at in range(n)]
        self.load_s, self.kernels = max(each[0] for each in said), said[0][1]

    def _get(self, at: int) -> Any:
        while self.outboxes[at].empty():
            if not self.workers[at].is_alive():
                sys.exit("a process of the benchmark died; its error stands above")
            time.sleep(0.02)
        return self.outboxes[at].get()

    def ask(self, name: str, parts: Sequence[tuple[Any, ...]]) -> tuple[float, float, list[list[Answer]]]:
        """Do something in all processes; return wall time, CPU time of all, and each one's answers."""
        for inbox, part in zip(self.inboxes, parts, strict=True):
            inbox.put((name, part))
        said = [self._get(at) for at in range(len(self.workers))]
        return max(each[0] for each in said), sum(each[1] for each in said), [each[2] for each in said]

    def end(self) -> None:
        """Let them end."""
        for inbox, worker in zip(self.inboxes, self.workers, strict=True):
            inbox.put(None)
            worker.join()
