"""What makes one task differ from another: the class of the model, the rows as tokens, batches, and scores."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
import transformers
from datasets import Dataset

from finetune.causal import encode_chats
from finetune.files import Table
from finetune.options import Settings
from train.errors import JobError

IGNORED = -100  # torch's cross-entropy leaves out labels of this value
AUTO_CLASSES = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    "mlm": "AutoModelForMaskedLM",
    "causal": "AutoModelForCausalLM",
}
Scores = Dict[str, float]


class Encoded(NamedTuple):
    """Rows as tokens, how many of them were cut to --max-length, and how many were left out for it."""

    rows: Dataset
    cut: int = 0
    dropped: int = 0


def head_settings(settings: Settings, labels: Sequence[str]) -> Dict[str, Any]:
    """What the head of the model has to be: none for a language model."""
    if settings.task == "regression":
        return {"num_labels": 1, "problem_type": "regression"}
    if settings.task not in ("classification", "tokens"):
        return {}
    kind = "multi_label" if settings.multi_label else "single_label"
    head: dict[str, Any] = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    if settings.task == "classification":
        head["problem_type"] = f"{kind}_classification"
    return head


# --- rows as tokens ------------------------------------------------------------------------------------------------


def encode(
    table: Table,
    tokenizer: Any,
    settings: Settings,
    labels: Sequence[str] = (),
) -> Encoded:
    """The rows of a table as the model takes them, without padding."""
    columns = table.columns
    if settings.task == "tokens":
        return encode_tokens(
            columns,
            tokenizer,
            settings,
            labels,
        )
    if "messages" in columns:
        return Encoded(
            *encode_chats(
                columns["messages"],
                tokenizer,
                settings,
            )
        )
    if settings.task in ("mlm", "causal"):
        return encode_texts(
            columns["text"],
            tokenizer,
            settings,
        )
    pair = [columns["pair"]] if "pair" in columns else []
    encoded = tokenizer(
        columns["text"],
        *pair,
        truncation=True,
        max_length=settings.max_length,
    )
    rows = dict(encoded)
    if "label" in columns:
        rows["labels"] = label_values(
            columns["label"],
            settings,
            labels,
        )
    full = sum(len(ids) == settings.max_length for ids in rows["input_ids"])
    return Encoded(
        Dataset.from_dict(rows),
        full,
    )


def label_values(
    values: List[Any], settings: Settings, labels: Sequence[str]
) -> List[Any]:
    """Numbers for names: a position, or for several labels a row of zeros and ones."""
    if settings.task == "regression":
        return values
    numbers = {label: number for number, label in enumerate(labels)}
    if not settings.multi_label:
        return [numbers[value] for value in values]
    rows = np.zeros((len(values), len(labels)), dtype=np.float32)
    for row, names in enumerate(values):
        for name in names:
            rows[row, numbers[name]] = 1
    result: list[Any] = rows.tolist()
    return result


def encode_tokens(
    columns: Dict[str, List[Any]],
    tokenizer: Any,
    settings: Settings,
    labels: Sequence[str],
) -> Encoded:
    """A word's tag belongs to its first token; the others are not learned."""
    if not tokenizer.is_fast:
        raise JobError(
            f"--task tokens needs a fast tokenizer, and {settings.model} has none"
        )
    numbers = {label: number for number, label in enumerate(labels)}
    encoded = tokenizer(
        columns["tokens"],
        is_split_into_words=True,
        truncation=True,
        max_length=settings.max_length,
    )
    rows = dict(encoded)
    cut = 0
    if "tags" in columns:
        rows["labels"] = []
        for row, tags in enumerate(columns["tags"]):
            words = encoded.word_ids(row)
            starts = first_tokens(words)
            cut += max(starts, default=-1) + 1 < len(tags)
            values = [IGNORED] * len(words)
            for word, position in starts.items():
                values[position] = numbers[tags[word]]
            rows["labels"].append(values)
    return Encoded(Dataset.from_dict(rows), cut)


def first_tokens(words: Sequence[int | None]) -> Dict[int, int]:
    """Where each word begins, by its number; a word that was cut off has no place."""
    starts: dict[int, int] = {}
    for position, word in enumerate(words):
        if word is not None:
            starts.setdefault(word, position)
    return starts


def encode_texts(
    texts: List[str],
    tokenizer: Any,
    settings: Settings,
) -> Encoded:
    """Plain text for a language model: packed into rows of --max-length, or one row for each text."""
    size = settings.max_length or 512
    if settings.packing is False:
        rows = dict(
            tokenizer(
                texts,
                truncation=True,
                max_length=size,
            )
        )
        full = sum(len(ids) == size for ids in rows["input_ids"])
        return with_labels(
            rows["input_ids"],
            settings,
            full,
        )
    # A masked language model knows rows with special tokens around them, a causal one an end after each text.
    end = (
        tokenizer.eos_token_id if settings.task == "causal" else tokenizer.sep_token_id
    )
    stream: list[int] = []
    for ids in tokenizer(
        texts,
        add_special_tokens=False,
    )["input_ids"]:
        stream += ids
        if end is not None:
            stream.append(end)
    if settings.task == "causal":
        return with_labels(
            chunks(
                stream,
                size,
            ),
            settings,
        )
    before, after = special_ends(tokenizer)
    inner = size - len(before) - len(after)
    wrapped = [
        before + part + after
        for part in chunks(
            stream,
            inner,
        )
    ]
    return with_labels(
        wrapped,
        settings,
    )


def special_ends(tokenizer: Any) -> Tuple[List[int], List[int]]:
    """The special tokens that an encoder has around a text: transformers 5 has no function that adds them to tokens."""
    ends: tuple[list[int], list[int]] = ([], [])
    for place, name in zip(
        ends,
        ("cls_token_id", "sep_token_id"),
    ):
        token = getattr(
            tokenizer,
            name,
        )
        if token is not None:
            place.append(token)
    return ends


def chunks(stream: List[int], size: int) -> List[List[int]]:
    parts = [stream[start : start + size] for start in range(0, len(stream), size)]
    # A causal model learns nothing from one token.
    return [part for part in parts if len(part) > 1]


def with_labels(
    rows: List[List[int]],
    settings: Settings,
    cut: int = 0,
) -> Encoded:
    columns = {
        "input_ids": rows,
        "attention_mask": [[1] * len(ids) for ids in rows],
    }
    if settings.task == "causal":
        columns["labels"] = rows
    return Encoded(
        Dataset.from_dict(columns),
        cut,
    )


# --- batches -------------------------------------------------------------------------------------------------------


def make_collator(tokenizer: Any, settings: Settings) -> Any:
    """Rows as a batch, padded to the longest of them."""
    if settings.task == "mlm":
        return MaskingCollator(tokenizer, settings.mask_share)
    if settings.task in ("tokens", "causal"):
        return transformers.DataCollatorForTokenClassification(tokenizer)
    return transformers.DataCollatorWithPadding(tokenizer)


class MaskingCollator:
    """Masks tokens anew each time, but for rows that are masked already."""

    def __init__(self, tokenizer: Any, share: float) -> None:
        self.mask = transformers.DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=share
        )
        self.pad = transformers.DataCollatorForTokenClassification(tokenizer)

    def __call__(self, rows: List[Any]) -> Any:
        return self.pad(rows) if "labels" in rows[0] else self.mask(rows)


def mask_once(
    rows: Dataset,
    collator: MaskingCollator,
    seed: int,
) -> Dataset:
    """Rows to evaluate on have the same masks each time: their losses can be compared."""
    columns: dict[str, list[Any]] = {
        "input_ids": [],
        "labels": [],
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for row in rows:
            batch = collator.mask([row])
            for name, values in columns.items():
                values.append(batch[name][0].tolist())
    columns["attention_mask"] = rows["attention_mask"]
    return Dataset.from_dict(columns)


# --- scores --------------------------------------------------------------------------------------------------------


def make_scorer(
    settings: Settings, labels: Sequence[str]
) -> Callable[[Any], Scores] | None:
    """What Trainer calls after an evaluation; None: the loss says all."""
    scorers: dict[str, Callable[[Any, Any], Scores]] = {
        "classification": several_scores if settings.multi_label else class_scores,
        "regression": number_scores,
        "tokens": lambda answers, tags: tag_scores(answers, tags, labels),
    }
    scorer = scorers.get(settings.task)
    if scorer is None:
        return None
    return lambda prediction: scorer(
        first(prediction.predictions), prediction.label_ids
    )


def first(predictions: Any) -> Any:
    """Some models answer with more than their logits."""
    return predictions[0] if isinstance(predictions, tuple) else predictions


def class_scores(
    logits: Any,
    labels: Any,
) -> Scores:
    """Accuracy, and precision, recall and F1 as the mean over the labels that occur."""
    answers = logits.argmax(-1)
    each = per_class(
        confusion_matrix(
            answers,
            labels,
            logits.shape[-1],
        )
    )
    occurring = each[each[:, 3] > 0]
    precision, recall, f1 = occurring[:, :3].mean(axis=0)
    return rounded(
        accuracy=(answers == labels).mean(),
        f1=f1,
        precision=precision,
        recall=recall,
    )


def several_scores(
    logits: Any,
    labels: Any,
) -> Scores:
    """Of all decisions together (micro), and the share of rows with every label right."""
    answers, wanted = logits > 0, labels > 0
    hits = (answers & wanted).sum()
    precision = hits / max(
        answers.sum(),
        1,
    )
    recall = hits / max(
        wanted.sum(),
        1,
    )
    f1 = (
        2
        * hits
        / max(
            answers.sum() + wanted.sum(),
            1,
        )
    )
    exact = (answers == wanted).all(axis=-1).mean()
    return rounded(
        accuracy=exact,
        f1=f1,
        precision=precision,
        recall=recall,
    )


def number_scores(
    values: Any,
    labels: Any,
) -> Scores:
    values, labels = np.ravel(values).astype(float), np.ravel(labels).astype(float)
    errors = values - labels
    spread = values.std() * labels.std()
    pearson = (
        ((values - values.mean()) * (labels - labels.mean())).mean() / spread
        if spread
        else 0.0
    )
    return rounded(
        rmse=np.sqrt((errors**2).mean()),
        mae=np.abs(errors).mean(),
        pearson=pearson,
    )


def tag_scores(answers: Any, tags: Any, labels: Sequence[str]) -> Scores:
    """Of whole entities."""
    report = entity_report(*named_tags(answers, tags, labels))
    names = ("f1", "precision", "recall", "accuracy")
    return rounded(**{name: report[f"overall_{name}"] for name in names})


def entity_report(found: Any, wanted: Any) -> Dict[str, Any]:
    """The scores of entities as the package seqeval counts them: `evaluate.load("seqeval")` of the image."""
    from metrics import seqeval

    true = seqeval.entities_of(wanted, suffix=False)
    predicted = seqeval.entities_of(found, suffix=False)
    report = seqeval.entity_scores(true, predicted, empty=0.0)
    report["overall_accuracy"] = seqeval.accuracy(wanted, found)
    return report


def named_tags(
    answers: Any,
    tags: Any,
    labels: Sequence[str],
) -> Any:
    """The tags of each row by name, without those that are not learned."""
    found, wanted = [], []
    for row, numbers in zip(
        answers,
        tags,
    ):
        known = numbers != IGNORED
        found.append([labels[number] for number in row[known]])
        wanted.append([labels[number] for number in numbers[known]])
    return found, wanted


def by_label(
    prediction: Any, settings: Settings, labels: Sequence[str]
) -> Dict[str, Any]:
    """Precision, recall, F1 and rows of each label, and for single labels the confusion matrix."""
    answers, wanted = first(prediction.predictions), prediction.label_ids
    if settings.task == "tokens":
        return entities(*named_tags(answers, wanted, labels))
    if settings.task != "classification":
        return {}
    if settings.multi_label:
        matrices = [
            confusion_matrix(*pair, 2) for pair in zip((answers > 0).T, wanted.T)
        ]
        each = np.stack([per_class(matrix)[1] for matrix in matrices])
        return {"scores": score_rows(labels, each)}
    matrix = confusion_matrix(answers.argmax(-1), wanted, len(labels))
    return {
        "scores": score_rows(labels, per_class(matrix)),
        "confusion": {"labels": list(labels), "rows": matrix.tolist()},
    }


def entities(found: Any, wanted: Any) -> Dict[str, Any]:
    """The same for each kind of entity."""
    scores = {}
    for name, row in entity_report(found, wanted).items():
        if name.startswith("overall_"):
            continue
        support = row["number"]
        scores[name] = rounded(
            precision=row["precision"],
            recall=row["recall"],
            f1=row["f1"],
            support=support,
        )
    return {"scores": scores}


def score_rows(labels: Sequence[str], each: Any) -> Dict[str, Scores]:
    names = ("precision", "recall", "f1", "support")
    return {label: rounded(**dict(zip(names, row))) for label, row in zip(labels, each)}


def smaller_logits(logits: Any, labels: Any) -> Any:
    """The best tag of each token: all logits of an evaluation would fill the memory."""
    return first(logits).argmax(-1)


def confusion_matrix(
    answers: Any,
    labels: Any,
    size: int,
) -> Any:
    """How often each label (row) was taken for each label (column)."""
    matrix = np.zeros(
        (size, size),
        dtype=int,
    )
    np.add.at(
        matrix,
        (
            np.asarray(
                labels,
                dtype=int,
            ),
            np.asarray(
                answers,
                dtype=int,
            ),
        ),
        1,
    )
    return matrix


def per_class(matrix: Any) -> Any:
    """Precision, recall, F1 and number of rows of each label."""
    hits = np.diag(matrix)
    answered, wanted = matrix.sum(axis=0), matrix.sum(axis=1)
    precision = hits / np.maximum(
        answered,
        1,
    )
    recall = hits / np.maximum(
        wanted,
        1,
    )
    f1 = (
        2
        * hits
        / np.maximum(
            answered + wanted,
            1,
        )
    )
    return np.stack(
        [precision, recall, f1, wanted],
        axis=1,
    )


def rounded(**scores: Any) -> Scores:
    return {name: round(float(value), 6) for name, value in scores.items()}
