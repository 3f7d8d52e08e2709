"""Chats as tokens: the model's own chat template, and labels on the answers only."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from datasets import Dataset

from finetune.options import Settings
from train.errors import JobError

Chat = List[Dict[str, str]]
OPEN_ROWS = 50  # rows that a chat may still be packed into

# For a tokenizer that has no template; it is saved with the model, so that `predict` uses the same.
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}### Answer:\n{{ message['content'] }}{{ eos_token }}\n"
    "{% elif message['role'] == 'user' %}### Question:\n{{ message['content'] }}\n\n"
    "{% else %}{{ message['content'] }}\n\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}### Answer:\n{% endif %}"
)


def encode_chats(
    chats: List[Chat], tokenizer: Any, settings: Settings
) -> Tuple[Dataset, int, int]:
    """Rows, how many were cut, and how many were left out, as no answer was left of them."""
    check_tokenizer(tokenizer, settings)
    size = settings.max_length or 1024
    rows: dict[str, list[Any]] = {"input_ids": [], "labels": []}
    cut = dropped = 0
    for chat in chats:
        ids, labels = encode_chat(chat, tokenizer, settings.loss_on_prompt)
        cut += len(ids) > size
        # The first label is never predicted.
        if all(label == -100 for label in labels[1:size]):
            dropped += 1
            continue
        rows["input_ids"].append(ids[:size])
        rows["labels"].append(labels[:size])
    if not rows["input_ids"]:
        raise JobError(
            f"no answer begins within the first {size} tokens of its chat",
            "raise --max-length",
        )
    if settings.packing:
        rows = pack(rows, size)
    rows["attention_mask"] = [[1] * len(ids) for ids in rows["input_ids"]]
    return Dataset.from_dict(rows), cut, dropped


def check_tokenizer(tokenizer: Any, settings: Settings) -> None:
    """Raise `JobError` for what chats need; sets a template where there is none."""
    if not hasattr(tokenizer, "apply_chat_template"):
        raise JobError("chats need transformers ≥ 4.34", "use a column of plain text")
    if not tokenizer.is_fast:
        raise JobError(f"chats need a fast tokenizer, and {settings.model} has none")
    if not tokenizer.chat_template:
        tokenizer.chat_template = TEMPLATE


def encode_chat(
    chat: Chat,
    tokenizer: Any,
    everything: bool,
) -> Tuple[List[int], List[int]]:
    """Tokens and labels of one chat; only what the assistant says, and where it ends, is learned."""
    text = render(
        tokenizer,
        chat,
    )
    spans = answer_spans(
        chat,
        tokenizer,
        text,
    )
    encoded = tokenizer(
        text,
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    ids: list[int] = encoded["input_ids"]
    if everything:
        return ids, list(ids)
    labels = []
    for token, (start, end) in zip(
        ids,
        encoded["offset_mapping"],
    ):
        learned = any(first <= start and end <= last for first, last in spans)
        labels.append(token if learned and end > start else -100)
    return ids, labels


def answer_spans(
    chat: Chat,
    tokenizer: Any,
    text: str,
) -> List[Tuple[int, int]]:
    """Where in the text the answers are, in characters."""
    spans = []
    for position, message in enumerate(chat):
        if message["role"] != "assistant":
            continue
        before = render(
            tokenizer,
            chat[:position],
            add_generation_prompt=True,
        )
        after = render(
            tokenizer,
            chat[: position + 1],
        )
        # Some templates write earlier answers otherwise than the last one: learn from those that stand there.
        if text.startswith(before) and text.startswith(after):
            spans.append((len(before), len(after)))
    return spans


def render(tokenizer: Any, chat: Chat, **more: Any) -> str:
    return str(tokenizer.apply_chat_template(chat, tokenize=False, **more))


def pack(
    rows: Dict[str, List[Any]],
    size: int,
) -> Dict[str, List[Any]]:
    """Whole chats one after another in rows of at most `size` tokens, each in the first row that has room."""
    packed: dict[str, list[list[int]]] = {
        "input_ids": [],
        "labels": [],
    }
    open_rows: list[int] = []
    for ids, labels in zip(
        rows["input_ids"],
        rows["labels"],
    ):
        place = find_room(
            packed["input_ids"],
            open_rows,
            size - len(ids),
        )
        if place is None:
            place = len(packed["input_ids"])
            packed["input_ids"].append([])
            packed["labels"].append([])
            open_rows = [*open_rows[-OPEN_ROWS:], place]
        packed["input_ids"][place] += ids
        packed["labels"][place] += labels
    return packed


def find_room(filled: List[List[int]], places: List[int], limit: int) -> int | None:
    for place in places:
        if len(filled[place]) <= limit:
            return place
    return None
