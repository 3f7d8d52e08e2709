"""Splits and columns: what a task learns from, checked row by row before a model is loaded.

After `load_data` every table has the same columns: `text`, perhaps `pair`, and `label` (classification, regression),
`tokens` and `tags` (tokens), `text` (mlm), `text` or `messages` (causal).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from finetune.columns import find_column, read_messages
from finetune.files import SUFFIXES, Columns, Table, read_table
from finetune.options import Settings
from train.data import DataError, hint_for, is_path, label_name, reason, sort_labels

# Names of files and of splits, by how they begin.
SPLITS = {
    "train": ("train",),
    "validation": ("valid", "dev", "eval"),
    "test": ("test",),
}
SAVED = ("dataset_dict.json", "state.json")  # by datasets' save_to_disk


@dataclass
class Data:
    """The tables by split (`train`, `validation`, perhaps `test`), the labels, and what the user should know."""

    tables: Dict[str, Table]
    labels: List[str]
    notes: List[str]


def is_local(settings: Settings) -> bool:
    """Whether the data can be read without the library datasets."""
    path = Path(settings.data)
    if not path.exists():
        return is_path(settings.data) or settings.data.lower().endswith(SUFFIXES)
    return not any((path / name).exists() for name in SAVED)


def load_data(settings: Settings) -> Data:
    """Read, check and split; raises `DataError` for whatever cannot be trained on."""
    if is_local(settings):
        tables = read_local(Path(settings.data), settings)
    else:
        tables = read_hub(settings)
    for split, name in (("validation", settings.validation), ("test", settings.test)):
        if name:
            path = Path(name)
            tables[split] = read_table(path, settings.encoding, settings.delimiter)
    notes: list[str] = []
    for table in tables.values():
        notes += table.notes
    checked = {}
    for split, table in tables.items():
        checked[split] = choose_columns(table, settings)
    if settings.multi_label:
        notes.append("a row may have several labels")
    train = checked["train"]
    labels = find_labels(train, settings)
    if "validation" not in checked:
        checked["train"], checked["validation"] = hold_out(train, settings)
        held_out = len(checked["validation"])
        notes.append(
            f"no validation data: {held_out} of {len(train)} rows held out (seed {settings.seed})"
        )
    for table in checked.values():
        check_labels(table, labels, settings)
    checked["train"] = sample(checked["train"], settings.max_train_samples, settings)
    checked["validation"] = sample(
        checked["validation"], settings.max_eval_samples, settings
    )
    notes += find_leaks(checked)
    return Data(checked, labels, notes)


# --- sources -------------------------------------------------------------------------------------------------------


def read_local(
    path: Path,
    settings: Settings,
) -> Dict[str, Table]:
    """A file as the split `train`, or the files of a directory as the splits that their names begin with."""
    if not path.exists() or path.is_file():
        return {
            "train": read_table(
                path,
                settings.encoding,
                settings.delimiter,
            )
        }
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(
            f"the directory {path} has no data files",
            f"supported: {' '.join(SUFFIXES)}",
        )
    parts: dict[str, list[Table]] = {}
    for file in files:
        table = read_table(
            file,
            settings.encoding,
            settings.delimiter,
        )
        parts.setdefault(
            split_name(file.stem),
            [],
        ).append(table)
    if "train" not in parts:
        raise DataError(f"the directory {path} has no training data: name a file train")
    return {split: join(tables) for split, tables in parts.items()}


def split_name(name: str) -> str:
    """The split that a name begins with; any other name is training data."""
    for split, beginnings in SPLITS.items():
        if name.lower().startswith(beginnings):
            return split
    return "train"


def join(tables: List[Table]) -> Table:
    """The rows of several files, which must have the same columns."""
    first = tables[0]
    if len(tables) == 1:
        return first
    columns: Columns = {name: [] for name in first.columns}
    notes: list[str] = []
    for table in tables:
        if set(table.columns) != set(columns):
            raise DataError(f"{table.source} has other columns than {first.source}")
        for name, values in table.columns.items():
            columns[name] += values
        notes += table.notes
    return Table(
        str(Path(first.source).parent),
        columns,
        notes=notes,
    )


def read_hub(settings: Settings) -> Dict[str, Table]:
    """A dataset of a hub, or one that datasets saved."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    more = {"trust_remote_code": True} if settings.trust_remote_code else {}
    try:
        if Path(settings.data).exists():
            dataset = load_from_disk(settings.data)
        else:
            dataset = load_dataset(settings.data, settings.data_config, **more)
    except Exception as error:
        hint = hint_for(settings.data, error)
        message = f"cannot read {settings.data}: {reason(error)}"
        raise DataError(message, hint) from error
    if not isinstance(dataset, DatasetDict):
        dataset = {"train": dataset}
    tables: dict[str, Table] = {}
    for name, split in dataset.items():
        tables.setdefault(split_name(name), to_table(split, settings.data))
    return tables


def to_table(split: Any, source: str) -> Table:
    """A split of datasets as a table: a label's name instead of its number."""
    columns = {}
    for name, feature in split.features.items():
        values = list(split[name])
        names = getattr(getattr(feature, "feature", feature), "names", None)
        if names:
            values = [named(value, names) for value in values]
        columns[name] = values
    return Table(source, columns)


def named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [names[number] for number in value]
    # -1 is a hub's own mark for a row without a label.
    return names[value] if value is not None and value >= 0 else None


# --- columns -------------------------------------------------------------------------------------------------------


def choose_columns(table: Table, settings: Settings) -> Table:
    """Only the columns that the task needs, under their own names, with no value missing."""
    task = settings.task
    columns: Columns = {}
    if task == "tokens":
        columns = tokens_and_tags(table, settings)
    elif task == "causal":
        columns = read_messages(table, settings)
    else:
        columns["text"] = texts(
            table, find_column(table, settings.text_column, "text", "--text-column")
        )
    if task in ("classification", "regression"):
        pair = find_column(table, settings.pair_column, "pair", "--pair-column")
        if pair:
            columns["pair"] = texts(table, pair)
        name = find_column(table, settings.label_column, "label", "--label-column")
        columns["label"] = read_labels(table, name, settings)
    return Table(table.source, columns, table.lines)


def texts(table: Table, column: str) -> List[str]:
    """A column of texts, none of them blank."""
    for row, value in enumerate(table.columns[column]):
        if value is not None and not isinstance(value, str):
            raise DataError(
                f"the column {column} does not contain text",
                "choose another column with --text-column",
            )
        if not (value or "").strip():
            raise DataError(f"{table.place(row)}: no {column}")
    return table.columns[column]


def read_labels(table: Table, column: str, settings: Settings) -> List[Any]:
    """Names of labels (a list of them for each row with --multi-label), or numbers for a regression."""
    values = table.columns[column]
    if settings.task == "regression":
        return [number(table, row, column) for row in range(len(values))]
    if isinstance(values[0], list):
        # Lists say it themselves.
        settings.multi_label = True
    labels: list[Any] = []
    for row, value in enumerate(values):
        if settings.multi_label:
            labels.append(several(value, settings.label_separator, column))
            continue
        label = label_name(value, (), column)
        if label is None or not label.strip():
            raise DataError(f"{table.place(row)}: no {column}")
        labels.append(label.strip())
    return labels


def several(value: Any, separator: str, column: str) -> List[str]:
    """The labels of one row."""
    if value is None:
        return []
    parts = value if isinstance(value, list) else str(value).split(separator)
    names = []
    for part in parts:
        name = (label_name(part, (), column) or "").strip()
        if name:
            names.append(name)
    return names


def number(table: Table, row: int, column: str) -> float:
    value = table.columns[column][row]
    try:
        result = float(value)
    except (TypeError, ValueError):
        result = math.nan
    if not math.isfinite(result):
        raise DataError(
            f"{table.place(row)}: {column} is {value!r}, which is no number"
        )
    return result


def tokens_and_tags(
    table: Table,
    settings: Settings,
) -> Columns:
    """Two lists of equal length for each row; words with spaces between them are a list too."""
    first = find_column(
        table,
        settings.text_column,
        "tokens",
        "--text-column",
    )
    second = find_column(
        table,
        settings.label_column,
        "tags",
        "--label-column",
    )
    columns: Columns = {
        "tokens": [],
        "tags": [],
    }
    pairs = zip(
        table.columns[first],
        table.columns[second],
    )
    for row, pair in enumerate(pairs):
        words, tags = map(
            as_words,
            pair,
        )
        if not words or len(words) != len(tags):
            raise DataError(
                f"{table.place(row)}: {len(words)} {first} and {len(tags)} {second}"
            )
        columns["tokens"].append([str(word) for word in words])
        columns["tags"].append([str(tag) for tag in tags])
    return columns


def as_words(value: Any) -> List[Any]:
    """A list, or words with spaces between them; a missing one has none."""
    if isinstance(value, str):
        return value.split()
    return value or []


# --- labels and splits ---------------------------------------------------------------------------------------------


def labels_of(
    table: Table,
    settings: Settings,
) -> Counter[str]:
    """How often each label occurs."""
    counts: Counter[str] = Counter()
    column = table.columns.get("tags") or table.columns.get("label") or []
    if settings.task not in ("classification", "tokens"):
        return counts
    for value in column:
        counts.update(
            value
            if isinstance(
                value,
                list,
            )
            else [value]
        )
    return counts


def find_labels(
    train: Table,
    settings: Settings,
) -> List[str]:
    """The labels of the training data, in order; a single one cannot be learned."""
    labels = sort_labels(
        labels_of(
            train,
            settings,
        )
    )
    if settings.task in ("classification", "tokens") and not labels:
        raise DataError(f"{train.source}: no row has a label")
    if len(labels) == 1 and not settings.multi_label:
        raise DataError(
            f"all {len(train)} training rows have the label {labels[0]}: there is nothing to learn"
        )
    return labels


def check_labels(
    table: Table,
    labels: Sequence[str],
    settings: Settings,
) -> None:
    """A label that was never trained on cannot be evaluated."""
    unknown = set(
        labels_of(
            table,
            settings,
        )
    ) - set(labels)
    if unknown:
        raise DataError(
            f"{table.source}: the label {min(unknown)} is not in the training data"
        )


def hold_out(
    table: Table,
    settings: Settings,
) -> Tuple[Table, Table]:
    """Rows to train on, and rows to evaluate on: drawn with the seed, of each label its share."""
    generator = random.Random(settings.seed)
    groups: dict[str, list[int]] = {}
    for row in range(len(table)):
        group = ""
        if settings.task == "classification" and not settings.multi_label:
            group = table.columns["label"][row]
        groups.setdefault(
            group,
            [],
        ).append(row)
    held_out: list[int] = []
    for rows in groups.values():
        generator.shuffle(rows)
        count = round(len(rows) * settings.validation_share)
        # A label needs a row to be learned from before it needs one to be evaluated on.
        if len(rows) > 1:
            held_out += rows[
                : max(
                    1,
                    min(
                        count,
                        len(rows) - 1,
                    ),
                )
            ]
    if not held_out:
        raise DataError(
            f"{table.source} has too few rows to hold some out for evaluation",
            "add rows, or pass those to evaluate on with --validation",
        )
    chosen = set(held_out)
    rest = [row for row in range(len(table)) if row not in chosen]
    train, validation = table.take(rest), table.take(sorted(chosen))
    # Rows that are drawn without a look at their labels can take the last one of a label.
    missing = set(
        labels_of(
            validation,
            settings,
        )
    ) - set(
        labels_of(
            train,
            settings,
        )
    )
    if missing:
        raise DataError(
            f"the label {min(missing)} is only in rows that were held out for evaluation",
            "use another --seed, or pass the rows to evaluate on with --validation",
        )
    return train, validation


def sample(
    table: Table,
    limit: int | None,
    settings: Settings,
) -> Table:
    """A random sample: the first rows of a file often have the same label."""
    if limit is None or limit >= len(table):
        return table
    rows = random.Random(settings.seed).sample(
        range(len(table)),
        limit,
    )
    return table.take(sorted(rows))


def find_leaks(tables: Dict[str, Table]) -> List[str]:
    """Texts to evaluate on that were trained on: the scores are better than the model."""
    notes: list[str] = []
    if "text" not in tables["train"].columns:
        return notes
    known = set(keys(tables["train"]))
    for split in ("validation", "test"):
        if split not in tables:
            continue
        shared = sum(key in known for key in keys(tables[split]))
        if shared:
            rows = len(tables[split])
            notes.append(
                f"warning: {shared} of {rows} {split} texts are in the training data too"
            )
    return notes


def keys(table: Table) -> List[Tuple[Any, ...]]:
    """What makes two rows the same: the text, and the second text of a pair."""
    columns = [
        table.columns[name] for name in ("text", "pair") if name in table.columns
    ]
    return list(zip(*columns))
