"""The tokenizer, the tokenized data, and BERT with a classifier on top."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

import torch
from transformers import (
    AutoConfig,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
)

from train.data import MOUNTS_HINT, hint_for, is_path, reason
from train.errors import JobError, first_line
from train.options import BUNDLED, Settings
from train.reviews import vocabulary

if TYPE_CHECKING:
    from datasets import Dataset


def make_tokenizer(words: Sequence[str] | None = None) -> Any:
    """A BERT tokenizer that knows the words of the bundled reviews."""
    words = words or vocabulary()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "vocab.txt")
        path.write_text("\n".join(words), encoding="utf-8")
        # As the first argument: transformers 5 silently ignores `vocab_file=`.
        return BertTokenizer(str(path))


def tokenize(data: Dataset, tokenizer: Any, settings: Settings) -> Dataset:
    """Texts → input_ids, attention_mask and labels."""
    padding = "max_length" if settings.pad_to_max_length else False

    def encode(rows: Any) -> Any:
        return tokenizer(
            rows["text"],
            padding=padding,
            truncation=True,
            max_length=settings.max_length,
        )

    data = data.map(
        encode,
        batched=True,
        load_from_cache_file=False,
        desc="tokenizing",
    )
    if settings.model == BUNDLED:
        check_vocabulary(data, tokenizer)
    data = data.rename_column("label", "labels")
    data.set_format("torch", columns=["input_ids", "attention_mask", "labels"])
    return data


def check_vocabulary(data: Dataset, tokenizer: Any) -> None:
    """The bundled model knows every word of the bundled reviews."""
    unknown = sum(ids.count(tokenizer.unk_token_id) for ids in data["input_ids"])
    if unknown:
        raise ValueError(f"the tokenizer does not know {unknown} of the reviews' words")


def make_model(settings: Settings, words: int) -> Any:
    """A small BERT with a classifier on top, its weights drawn from the seed."""
    torch.manual_seed(settings.seed)
    config = BertConfig(
        **dropout_config(settings),
        vocab_size=words,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        intermediate_size=settings.hidden_size * 4,
        max_position_embeddings=max(64, settings.max_length),
        num_labels=2,
        id2label={0: "negative", 1: "positive"},
        label2id={"negative": 0, "positive": 1},
        # BERT's 0.02 is for wide layers; with it one seed in five never gets beyond counting words.
        initializer_range=0.05,
    )
    return BertForSequenceClassification(config)


def dropout_config(settings: Settings) -> dict[str, float]:
    """What --dropout changes in a model's configuration."""
    if settings.dropout is None:
        return {}
    return {
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.dropout,
    }


def load_model(settings: Settings, labels: Sequence[str]) -> tuple[Any, Any]:
    """The model and its tokenizer: the bundled one, or a pretrained one with a new classifier for the labels."""
    if settings.model == BUNDLED:
        tokenizer = make_tokenizer()
        return make_model(settings, len(tokenizer)), tokenizer
    torch.manual_seed(settings.seed)
    check_model(settings)
    try:
        tokenizer = BertTokenizer.from_pretrained(settings.model)
        model, info = load_pretrained(settings, labels)
    except Exception as error:
        # OSError, safetensors' own errors, or whatever else a broken file leads to.
        message = f"cannot load model {settings.model}: {reason(error)}"
        raise JobError(
            message,
            hint_for(settings.model, error),
        ) from error
    for name, *_ in info["mismatched_keys"]:
        if not name.startswith("classifier."):
            raise JobError(
                f"model {settings.model} does not match its config.json: {name} has a different size"
            )
    return model, tokenizer


def load_pretrained(settings: Settings, labels: Sequence[str]) -> Any:
    return BertForSequenceClassification.from_pretrained(
        settings.model,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **dropout_config(settings),
        # The classifier may be that of another job, with other labels.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )


def check_model(settings: Settings) -> None:
    """Raise `JobError` for what is not BERT, from config.json alone: if a hub is silent, this error is the plainest."""
    name = settings.model
    directory = Path(name)
    if is_path(name) and not directory.is_dir():
        raise JobError(f"no such directory: {name}", MOUNTS_HINT)
    if directory.is_dir():
        check_model_files(directory)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        # The first line is plain; below it is a network library's stack.
        raise JobError(
            f"cannot load model {name}: {first_line(error)}",
            hint_for(name, error),
        ) from error
    if config.model_type != "bert":
        raise JobError(
            f"model {name} is of type {config.model_type}; this job trains BERT models only"
        )
    limit = config.max_position_embeddings
    if settings.max_length > limit:
        raise JobError(
            f"--max-length {settings.max_length} exceeds this model's limit of {limit} tokens"
        )


def check_model_files(directory: Path) -> None:
    files = {path.name for path in directory.iterdir()}
    if "config.json" not in files:
        raise JobError(f"{directory} is not a model directory: it has no config.json")
    if files.isdisjoint({"vocab.txt", "tokenizer.json"}):
        raise JobError(
            f"the model in {directory} has no tokenizer: vocab.txt is missing"
        )
