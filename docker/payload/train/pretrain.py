"""Pre-training: what BERT learns from texts alone, without labels.

Two tasks, as in BERT's paper. Masked-language modelling: predict the words that were hidden. Next-sentence prediction:
does the second half of a pair follow the first, or is it from another text? The encoder that learned this becomes the
classifier's; the loop in loop.py trains both.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence, Tuple

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    BertForPreTraining,
    BertModel,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
)

from train import checkpoints
from train.errors import JobError
from train.loop import to_device, train
from train.options import BUNDLED, Settings
from train.outputs import plot
from train.parallel import SingleProcess
from train.record import PretrainingRecorder, Say, fixed_settings
from train.reviews import Pair, make_pairs

Example = Tuple[str, str, int]

# cross_entropy's own mark for what does not count: words that were not masked, texts that are not pairs.
IGNORED = -100
# Pairs to evaluate on after each epoch.
MAX_HELD_OUT = 500
MASKED_SHARE = 0.15
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")
FINISHED = "pretraining.json"


# --- texts ---------------------------------------------------------------------------------------------------------


class Texts(NamedTuple):
    """The texts to learn from, and those to evaluate on, each as its first and second half ("" if it has none)."""

    train: list[Pair]
    test: list[Pair]


def load_texts(settings: Settings, rows: Any, held_out: Any) -> Texts:
    """Other texts than those with labels for the bundled model, those of --data for any other."""
    limit = settings.pretrain_rows
    if settings.data == BUNDLED:
        labelled = {*rows["text"], *held_out["text"]}
        return bundled_texts(limit or 0, labelled)
    generator = random.Random(settings.seed)
    texts = [split_text(text, generator) for text in rows["text"]]
    generator.shuffle(texts)
    first_texts = held_out["text"][:MAX_HELD_OUT]
    others = [split_text(text, generator) for text in first_texts]
    return Texts(texts[:limit], others)


def bundled_texts(count: int, excluded: set[str]) -> Texts:
    pairs = make_pairs(count + MAX_HELD_OUT, excluded)
    return Texts(pairs[:count], pairs[count:])


def split_text(text: str, generator: random.Random) -> Pair:
    """A text in two halves, split after one of its sentences, drawn at random; one sentence has no second half."""
    sentences = []
    for part in SENTENCE_END.split(text):
        if part.strip():
            sentences.append(part.strip())
    if len(sentences) < 2:
        return text, ""
    places = len(sentences) - 1
    position = 1 + int(generator.random() * places)
    first = " ".join(sentences[:position])
    second = " ".join(sentences[position:])
    return first, second


def make_examples(texts: Sequence[Pair], generator: random.Random) -> list[Example]:
    """(first, second, label): 0 if the second half is the text's own, 1 if it is another text's."""
    pairs = [number for number, (_, second) in enumerate(texts) if second]
    examples = []
    for number, (first, second) in enumerate(texts):
        if not second or len(pairs) < 2:
            example = (first, second, IGNORED)
        elif generator.random() < 0.5:
            example = (first, second, 0)
        else:
            other = _draw_other(pairs, number, generator)
            _, foreign = texts[other]
            example = (first, foreign, 1)
        examples.append(example)
    return examples


def _draw_other(pairs: Sequence[int], number: int, generator: random.Random) -> int:
    other = number
    while other == number:
        other = pairs[int(generator.random() * len(pairs))]
    return other


def encode(
    first: str,
    second: str,
    tokenizer: Any,
    max_length: int,
) -> dict[str, list[int]]:
    """[CLS] first [SEP] second [SEP] in at most so many tokens: of a long pair, those around the split."""
    first_ids, second_ids = (
        _token_ids(first, tokenizer),
        _token_ids(second, tokenizer),
    )
    if second_ids:
        room = max_length - 3
        kept = max(room // 2, room - len(second_ids))
        first_ids = first_ids[-kept:]
    else:
        room = max_length - 2
        first_ids = first_ids[:room]
    second_ids = second_ids[: room - len(first_ids)]
    input_ids = [tokenizer.cls_token_id, *first_ids, tokenizer.sep_token_id]
    token_types = [0] * len(input_ids)
    if second_ids:
        input_ids += [*second_ids, tokenizer.sep_token_id]
        token_types += [1] * (len(second_ids) + 1)
    return {
        "input_ids": input_ids,
        "token_type_ids": token_types,
        "attention_mask": [1] * len(input_ids),
    }


def _token_ids(text: str, tokenizer: Any) -> list[int]:
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        truncation=False,
        verbose=False,
    )
    ids: list[int] = encoded["input_ids"]
    return ids


def tokenize(texts: Sequence[Pair], tokenizer: Any, settings: Settings) -> Dataset:
    """Texts → a dataset as the training loop takes it; its labels are those of next-sentence prediction."""
    columns: dict[str, list[Any]] = {
        "input_ids": [],
        "token_type_ids": [],
        "attention_mask": [],
        "labels": [],
    }
    for first, second, label in make_examples(texts, random.Random(settings.seed)):
        row = encode(first, second, tokenizer, settings.max_length)
        if settings.pad_to_max_length:
            row = tokenizer.pad(
                row, padding="max_length", max_length=settings.max_length
            )
        for name, values in {**row, "labels": label}.items():
            columns[name].append(values)
    data = Dataset.from_dict(columns)
    data.set_format("torch")
    return data


# --- model ---------------------------------------------------------------------------------------------------------


class MaskingBert(BertForPreTraining):
    """BERT with both heads. It masks its input itself, so that each epoch hides other words of a text.

    Masks are drawn here and not where batches are made: a resumed run skips batches, and must draw the same masks.
    """

    masking: Any

    def forward(self, labels: Any, **inputs: Any) -> Any:
        # The collator draws on the CPU.
        words = inputs["input_ids"].cpu()
        special_ids = torch.tensor(self.masking.tokenizer.all_special_ids)
        special = torch.isin(words, special_ids)
        masked, hidden = self.masking.torch_mask_tokens(
            words.clone(), special_tokens_mask=special
        )
        hidden = hidden.to(labels.device)
        inputs["input_ids"] = masked.to(labels.device)
        output = super().forward(**inputs)
        word_logits = output.prediction_logits
        pair_logits = output.seq_relationship_logits
        output.loss = mean_loss(word_logits, hidden) + mean_loss(pair_logits, labels)
        output.correct = {
            "masked_words": correct(word_logits, hidden),
            "sentence_pairs": correct(pair_logits, labels),
        }
        return output


def mean_loss(logits: Any, labels: Any) -> Any:
    """The mean cross-entropy of the labels that count; 0, not NaN, if none does, as in a very small batch."""
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
    counted = (labels != IGNORED).sum()
    return total / counted.clamp(min=1)


def correct(logits: Any, labels: Any) -> Any:
    """For each label that counts: was it predicted?"""
    counted = labels != IGNORED
    return logits.argmax(-1)[counted] == labels[counted]


def make_model(classifier: Any, tokenizer: Any, settings: Settings) -> MaskingBert:
    """The classifier's encoder under two heads: a pretrained model's own, or new ones."""
    torch.manual_seed(settings.seed)
    if settings.model == BUNDLED:
        model = MaskingBert(classifier.config)
    else:
        model = MaskingBert.from_pretrained(settings.model)
    model.bert.load_state_dict(classifier.bert.state_dict())
    model.masking = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=MASKED_SHARE
    )
    return model


@torch.no_grad()
def evaluate(
    model: Any,
    data: Dataset,
    device: str,
    tokenizer: Any,
    batch: int,
) -> dict[str, float]:
    """The shares of masked words and sentence pairs predicted correctly; the same words are masked each time."""
    model.eval()
    collate = DataCollatorWithPadding(tokenizer)
    answers: dict[str, list[bool]] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for rows in DataLoader(data, batch_size=batch, collate_fn=collate):
            output = model(**to_device(rows, device))
            for name, values in output.correct.items():
                answers.setdefault(name, []).extend(values.tolist())
    return {
        name: sum(values) / len(values) for name, values in answers.items() if values
    }


# --- the whole -----------------------------------------------------------------------------------------------------


@dataclass
class Evaluation:
    """Evaluates the model of all processes after an epoch."""

    team: SingleProcess
    data: Any
    tokenizer: Any
    batch: int

    def __call__(self) -> Any:
        model = self.team.gather_model()
        scores = None
        if self.team.is_main_process:
            scores = evaluate(
                model,
                self.data,
                self.team.device,
                self.tokenizer,
                self.batch,
            )
        return self.team.broadcast(scores)


def pretrain(
    classifier: Any,
    tokenizer: Any,
    parts: tuple[Any, Any],
    settings: Settings,
    *,
    team: SingleProcess,
    say: Say,
) -> dict[str, Any]:
    """Pre-train the classifier's encoder, if --pretrain says so; returns what was measured, {} without it.

    With --output the result is left in OUTPUT/pretrained, which `train --model` takes, and a resumed run finds it.
    """
    if not settings.pretrain:
        return {}
    own = own_settings(settings)
    output = Path(own.output) if own.output else None
    measured = team.broadcast(
        find_finished(output, own) if team.is_main_process else None
    )
    if measured:
        say(f"the pre-training is finished already: {own.output}")
        encoder = BertModel.from_pretrained(own.output)
    else:
        encoder, measured = run(
            classifier,
            tokenizer,
            parts,
            own,
            team=team,
            say=say,
        )
        if output and team.is_main_process:
            finish(
                output,
                encoder,
                tokenizer,
                {"same": fixed_settings(own), "measured": measured},
            )
    share_encoder(encoder, classifier, team)
    # The fine-tune then draws the same, whether the pre-training ran now or earlier.
    torch.manual_seed(settings.seed)
    return {"pretraining": measured}


def own_settings(settings: Settings) -> Settings:
    """The pre-training's settings."""
    if settings.parallel in ("model", "pipeline"):
        hint = "pre-train without it first, with --output DIR; then use --model DIR/pretrained"
        raise JobError(
            f"--pretrain cannot be combined with --parallel {settings.parallel}", hint
        )
    return replace(
        settings,
        epochs=settings.pretrain or 0,
        output=str(Path(settings.output, "pretrained")) if settings.output else None,
        # Masks are drawn in `forward`, where torch.compile would break the graph.
        compile=False,
    )


def run(
    classifier: Any,
    tokenizer: Any,
    parts: tuple[Any, Any],
    settings: Settings,
    *,
    team: SingleProcess,
    say: Say,
) -> tuple[Any, dict[str, Any]]:
    """Train on both tasks; returns the encoder, None where another process has it, and what was measured."""
    texts, held_out = load_texts(settings, *parts)
    test_data = tokenize(held_out, tokenizer, settings)
    say(announcement(texts))
    model = make_model(classifier, tokenizer, settings)
    data = tokenize(texts, tokenizer, settings)
    evaluation = Evaluation(team, test_data, tokenizer, 4 * settings.batch_size)
    recorder = PretrainingRecorder(settings, evaluation, say)
    losses = train(
        model,
        data,
        settings,
        team.device,
        tokenizer=tokenizer,
        callbacks=recorder,
        team=team,
    )
    recorder.close()
    last = losses[-10:]
    measured = {
        **recorder.epochs[-1],
        "loss": sum(last) / len(last),
        "steps": len(losses),
        "texts": len(texts),
        "losses": [round(loss, 5) for loss in losses],
        "seconds": round(recorder.seconds(), 2),
    }
    return getattr(team.gather_model(), "bert", None), measured


def share_encoder(encoder: Any, classifier: Any, team: SingleProcess) -> None:
    """Give the main process's encoder to the classifiers of all processes."""
    state = {}
    if team.is_main_process:
        for name, value in encoder.state_dict().items():
            state[name] = value.cpu()
    classifier.bert.load_state_dict(team.broadcast(state))


def announcement(texts: Sequence[Pair]) -> str:
    pairs = [second for _, second in texts if second]
    line = f"pre-training on {len(texts)} texts"
    if len(pairs) < 2:
        return f"{line} of one sentence: masked words only, no next-sentence prediction"
    return f"{line}, {len(pairs)} of them in two halves for next-sentence prediction"


def find_finished(output: Path | None, settings: Settings) -> Any:
    """What a finished pre-training in OUTPUT/pretrained measured; without --resume it is removed."""
    if output is None:
        return None
    if not settings.resume:
        shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True, exist_ok=True)
    path = output / FINISHED
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    now = fixed_settings(settings)
    checkpoints.check_same_settings(output, document["same"], now)
    return document["measured"]


def finish(
    output: Path,
    encoder: Any,
    tokenizer: Any,
    document: Mapping[str, Any],
) -> None:
    """Save the encoder as a model that `train --model` takes, and remove its checkpoints. The document comes last."""
    plot(output)
    encoder.save_pretrained(str(output), safe_serialization=True)
    tokenizer.save_pretrained(str(output))
    for path in output.iterdir():
        checkpoints.sync(path)
    new = output / f".{FINISHED}"
    text = json.dumps(document, indent=1)
    new.write_text(text, encoding="utf-8")
    checkpoints.sync(new)
    new.replace(output / FINISHED)
    for step in checkpoints.steps(output):
        shutil.rmtree(checkpoints.directory_of(output, step))
