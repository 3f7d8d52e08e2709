"""`finetune predict DIR`: answers of a model that `finetune` saved, in batches, one JSON line for each row."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, TextIO

from finetune.files import Table, read_table
from finetune.options import Settings
from train.errors import JobError
from train.options import positive_int

Answer = Dict[str, Any]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; ends with 2 before a library is imported if there is no model or no text."""
    parser = argparse.ArgumentParser(prog="finetune predict", description=__doc__)
    add = parser.add_argument
    add("model", metavar="DIR", help="the directory that `finetune --output DIR` wrote")
    add("texts", metavar="TEXT", nargs="*", help="texts [standard input, one per line]")
    add(
        "--file",
        metavar="FILE",
        help="a table with the columns of the training data; the label may be missing",
    )
    add("--output", metavar="FILE", help="[standard output]")
    add(
        "--batch-size", type=positive_int, default=32, metavar="N", help="[%(default)s]"
    )
    add(
        "--max-new-tokens",
        type=positive_int,
        default=256,
        metavar="N",
        help="of an answer (causal) [%(default)s]",
    )
    add(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="[%(default)s]",
    )
    options = parser.parse_args(arguments)
    if not Path(options.model, "finetune.json").is_file():
        parser.error(
            f"no model of finetune in {options.model}: it has no finetune.json"
        )
    if options.file and options.texts:
        parser.error("give texts or --file, not both")
    if not options.file and not options.texts and sys.stdin.isatty():
        parser.error(
            "no text: `finetune predict DIR TEXT …`, --file FILE, or one per line on standard input"
        )
    return options


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    document = json.loads(Path(options.model, "finetune.json").read_text("utf-8"))
    settings = Settings(**document["settings"])
    settings.quantize = None
    table = read_input(options, settings)

    from transformers import AutoTokenizer

    from finetune import adapters, compat, tasks

    device = compat.device_of(options.device)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    head = tasks.head_settings(settings, document["labels"])
    model = adapters.load(options.model, settings.task, head, device)
    predictor = Predictor(model, tokenizer, settings, document["labels"], device)
    predictor.batch_size = options.batch_size
    predictor.max_new_tokens = options.max_new_tokens
    if options.output:
        with Path(options.output).open("w", encoding="utf-8") as stream:
            predictor.write(table, stream)
    else:
        predictor.write(table, sys.stdout)
    return 0


def read_input(options: argparse.Namespace, settings: Settings) -> Table:
    """The rows to predict, with the columns of the task."""
    if options.file:
        return read_rows(options.file, settings)
    texts = options.texts or [line.rstrip("\n") for line in sys.stdin]
    if not texts:
        raise JobError("no text on standard input")
    return as_rows(Table("text", {"text": list(texts)}), "text", None, settings)


def read_rows(
    file: str,
    settings: Settings,
) -> Table:
    """A file's rows. Its label column, if it has one, is not read."""
    from finetune.columns import COLUMNS, find_column, first_of

    table = read_table(
        Path(file),
        settings.encoding,
        settings.delimiter,
    )
    kind = {
        "tokens": "tokens",
        "causal": "prompt",
    }.get(
        settings.task,
        "text",
    )
    if kind == "prompt" and not first_of(
        table,
        kind,
    ):
        kind = "text"
    name = settings.text_column
    if name not in table.columns:
        name = find_column(
            table,
            None,
            kind,
            "--text-column",
        )
    pair = settings.pair_column or next(
        filter(
            table.columns.get,
            COLUMNS["pair"],
        ),
        None,
    )
    return as_rows(
        table,
        name,
        pair,
        settings,
    )


def as_rows(
    table: Table,
    name: str,
    pair: str | None,
    settings: Settings,
) -> Table:
    values = table.columns[name]
    columns: dict[str, list[Any]] = {"text": values}
    if settings.task == "tokens":
        words = [
            value.split()
            if isinstance(
                value,
                str,
            )
            else value
            for value in values
        ]
        columns = {"tokens": words}
    elif pair and settings.task in ("classification", "regression"):
        columns["pair"] = table.columns[pair]
    return Table(
        table.source,
        columns,
        table.lines,
    )


class Predictor:
    """Answers in batches of similar length, given back in the order of the rows."""

    batch_size = 32
    max_new_tokens = 256

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: Settings,
        labels: Sequence[str],
        device: str,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings
        self.labels = labels
        self.device = device
        self.answers: Dict[str, Callable[[Table], List[Answer]]] = {
            "classification": self.classify,
            "regression": self.measure,
            "tokens": self.tag,
            "mlm": self.fill,
            "causal": self.generate,
        }

    def write(self, table: Table, stream: TextIO) -> None:
        for answer in self(table):
            stream.write(json.dumps(answer, ensure_ascii=False) + "\n")
            stream.flush()

    def __call__(
        self,
        table: Table,
    ) -> Iterator[Answer]:
        """An answer for each row, in order."""
        first = next(iter(table.columns.values()))
        order = sorted(
            range(len(first)),
            key=lambda row: len(first[row]),
        )
        done: dict[int, Answer] = {}
        answer = self.answers[self.settings.task]
        for start in range(
            0,
            len(order),
            self.batch_size,
        ):
            rows = order[start : start + self.batch_size]
            done.update(
                zip(
                    rows,
                    answer(table.take(rows)),
                )
            )
        for row in range(len(first)):
            yield done[row]

    def logits(self, table: Table) -> Any:
        import torch

        from finetune.tasks import encode

        settings = self.settings
        rows = encode(table, self.tokenizer, settings, self.labels).rows
        batch = self.tokenizer.pad(rows[:], return_tensors="pt").to(self.device)
        with torch.no_grad():
            return self.model(**batch).logits.float().cpu()

    def classify(
        self,
        table: Table,
    ) -> List[Answer]:
        logits = self.logits(table)
        texts = table.columns["text"]
        if not self.settings.multi_label:
            scores, best = logits.softmax(-1).max(-1)
            results = zip(
                texts,
                best.tolist(),
                scores.tolist(),
            )
            return [
                {
                    "label": self.labels[label],
                    "score": round(
                        score,
                        4,
                    ),
                    "text": text,
                }
                for text, label, score in results
            ]
        answers = []
        for text, row in zip(
            texts,
            logits.sigmoid().tolist(),
        ):
            scored = dict(
                zip(
                    self.labels,
                    row,
                )
            )
            chosen = {
                name: round(
                    p,
                    4,
                )
                for name, p in scored.items()
                if p > 0.5
            }
            answers.append(
                {
                    "labels": list(chosen),
                    "scores": chosen,
                    "text": text,
                }
            )
        return answers

    def measure(self, table: Table) -> List[Answer]:
        values = self.logits(table)[:, 0].tolist()
        pairs = zip(values, table.columns["text"])
        return [{"value": round(value, 6), "text": text} for value, text in pairs]

    def tag(self, table: Table) -> List[Answer]:
        """The tag of each word; None where the text was cut before it."""
        from finetune.tasks import first_tokens

        best = self.logits(table).argmax(-1).tolist()
        words = table.columns["tokens"]
        encoded = self.tokenizer(
            words,
            is_split_into_words=True,
            truncation=True,
            max_length=self.settings.max_length,
        )
        answers = []
        for row, tokens in enumerate(words):
            starts = first_tokens(encoded.word_ids(row))
            tags: list[str | None] = [None] * len(tokens)
            for word, position in starts.items():
                tags[word] = self.labels[best[row][position]]
            answers.append({"tokens": tokens, "tags": tags})
        return answers

    def fill(self, table: Table) -> List[Answer]:
        """The most probable word for each mask of a text."""
        import torch

        texts = table.columns["text"]
        batch = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.settings.max_length,
            return_tensors="pt",
        ).to(self.device)
        with torch.no_grad():
            best = self.model(**batch).logits.argmax(-1)
        answers = []
        masks = batch["input_ids"] == self.tokenizer.mask_token_id
        for row, text in enumerate(texts):
            tokens = best[row][masks[row]].tolist()
            words = self.tokenizer.convert_ids_to_tokens(tokens)
            answers.append({"words": words, "text": text})
        return answers

    def generate(self, table: Table) -> List[Answer]:
        """Greedy, after the chat template if the model was trained with one."""
        import torch

        texts = prompts = table.columns["text"]
        template = getattr(self.tokenizer, "chat_template", None)
        if template:
            from finetune.causal import render

            prompts = []
            for text in texts:
                chat = [{"role": "user", "content": text}]
                prompts.append(render(self.tokenizer, chat, add_generation_prompt=True))
        self.tokenizer.padding_side = "left"
        batch = self.tokenizer(
            prompts,
            padding=True,
            add_special_tokens=not template,
            return_tensors="pt",
        ).to(self.device)
        batch.pop("token_type_ids", None)
        with torch.no_grad():
            tokens = self.model.generate(
                **batch,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        new = tokens[:, batch["input_ids"].shape[1] :]
        replies = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        return [
            {"answer": reply.strip(), "text": text}
            for reply, text in zip(replies, texts)
        ]
