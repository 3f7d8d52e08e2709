"""Which columns are meant, found by the names that they usually have."""

from __future__ import annotations

from typing import Any, Dict, List

from finetune.files import Columns, Table
from finetune.options import Settings
from train.data import DataError

COLUMNS = {
    "text": "text sentence review content sentence1 text1 premise question 文本 内容 评论 句子".split(),
    "pair": "pair text2 sentence2 text_pair hypothesis".split(),
    "label": "label labels sentiment target class category score 标签 类别 情感 分数".split(),
    "tokens": "tokens words".split(),
    "tags": "tags ner_tags labels pos_tags label".split(),
    "messages": "messages conversations conversation".split(),
    "prompt": "prompt instruction question 问题 指令".split(),
    "answer": "completion response output answer chosen 回答 输出".split(),
    "input": "input context".split(),
}
# What the parties of a chat are called in the usual formats.
ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
}


def find_column(table: Table, requested: str | None, kind: str, flag: str) -> str:
    """The column that the user named, or the first of the usual ones; "" for a pair that does not exist."""
    candidates = [requested] if requested else COLUMNS[kind]
    for name in candidates:
        if name in table.columns:
            return name
    if kind == "pair" and not requested:
        return ""
    names = ", ".join(repr(name) for name in table.columns)
    what = f"no column {requested!r}" if requested else f"no column for the {kind}"
    raise DataError(
        f"{table.source} has {what}; its columns are {names}",
        f"choose one of them with {flag}",
    )


def first_of(table: Table, kind: str) -> str | None:
    for name in COLUMNS[kind]:
        if name in table.columns:
            return name
    return None


def read_messages(
    table: Table,
    settings: Settings,
) -> Columns:
    """`messages` out of chats or pairs of prompt and answer, else `text`."""
    name = settings.text_column or first_of(
        table,
        "messages",
    )
    if name and isinstance(
        table.columns.get(
            name,
            [None],
        )[0],
        list,
    ):
        chats = table.columns[name]
        return {
            "messages": [
                chat(
                    table,
                    row,
                    chats[row],
                )
                for row in range(len(table))
            ]
        }
    prompt, answer = (
        first_of(
            table,
            "prompt",
        ),
        first_of(
            table,
            "answer",
        ),
    )
    if prompt and answer and not settings.text_column:
        rows = range(len(table))
        return {
            "messages": [
                pair(
                    table,
                    row,
                    prompt,
                    answer,
                )
                for row in rows
            ]
        }
    column = find_column(
        table,
        settings.text_column,
        "text",
        "--text-column",
    )
    texts = []
    for row, value in enumerate(table.columns[column]):
        if (
            not isinstance(
                value,
                str,
            )
            or not value.strip()
        ):
            raise DataError(f"{table.place(row)}: no {column}")
        texts.append(value)
    return {"text": texts}


def chat(
    table: Table,
    row: int,
    messages: Any,
) -> List[Dict[str, str]]:
    """Messages with `role` and `content`; ShareGPT's `from` and `value` mean the same."""
    result = []
    for message in messages or []:
        if not isinstance(
            message,
            dict,
        ):
            raise DataError(f"{table.place(row)}: a message is no object")
        role = message.get(
            "role",
            message.get("from"),
        )
        content = message.get(
            "content",
            message.get("value"),
        )
        if role not in ROLES or not isinstance(
            content,
            str,
        ):
            raise DataError(
                f"{table.place(row)}: a message needs role (system, user or assistant) and content"
            )
        result.append(
            {
                "role": ROLES[role],
                "content": content,
            }
        )
    if not any(message["role"] == "assistant" for message in result):
        raise DataError(
            f"{table.place(row)}: no message of the assistant to learn from"
        )
    return result


def pair(
    table: Table,
    row: int,
    prompt: str,
    answer: str,
) -> List[Dict[str, str]]:
    """A prompt, with Alpaca's `input` under it if there is one, and its answer."""
    question, reply = table.columns[prompt][row], table.columns[answer][row]
    for name, value in ((prompt, question), (answer, reply)):
        if (
            not isinstance(
                value,
                str,
            )
            or not value.strip()
        ):
            raise DataError(f"{table.place(row)}: no {name}")
    more = first_of(
        table,
        "input",
    )
    if more and more != prompt and table.columns[more][row]:
        question = f"{question}\n\n{table.columns[more][row]}"
    return [
        {
            "role": "user",
            "content": question,
        },
        {
            "role": "assistant",
            "content": reply,
        },
    ]
