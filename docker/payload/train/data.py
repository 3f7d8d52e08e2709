"""Where the texts come from: the bundled reviews, a hub, a directory or a file; checked before anything is trained.

A dataset has the columns `text` and `label` (0, 1, …). Everything that can be wrong with a user's data is a
`DataError` that names the column, the file or the row.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterable, NamedTuple, Sequence

from train.errors import JobError, first_line
from train.options import BUNDLED, Settings
from train.reviews import Review, make_reviews
from train.row_place import place_of

if TYPE_CHECKING:
    from datasets import Dataset

TEXT_COLUMNS = ("text", "sentence", "review", "content")
LABEL_COLUMNS = ("label", "labels", "sentiment", "target")
READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".parquet": "parquet",
}
MOUNTS_HINT = (
    "inside a container only mounted paths exist: `docker run --volume DIR:DIR …`"
)


class DataError(JobError):
    """The data cannot be trained on; `hint` says what to change."""


class Data(NamedTuple):
    """The rows to train on, those to evaluate on, and the names of the labels."""

    train: Dataset
    test: Dataset
    labels: list[str]


def load_data(settings: Settings) -> Data:
    """The rows of --data; the column `label` has the positions of the labels' names."""
    if settings.data == BUNDLED:
        return load_bundled(settings)
    train, test, names = load_splits(settings)
    labels = sort_labels(train["label"])
    if len(labels) < 2:
        rows = len(train)
        raise DataError(
            f"all {rows} training rows have the label {labels[0]}: there is nothing to learn"
        )
    train = number_labels(train, names)
    test = number_labels(test, names)
    return Data(train, test, names)


def load_bundled(settings: Settings) -> Data:
    """The bundled reviews; in addition to text and label they say which ones are negated."""
    rows = settings.max_train_samples
    held_out = settings.max_eval_samples
    if rows is None or held_out is None:
        raise ValueError(
            "the bundled reviews need --max-train-samples and --max-eval-samples"
        )
    train, test = make_reviews(rows, held_out)
    return Data(to_dataset(train), to_dataset(test), ["negative", "positive"])


def to_dataset(reviews: Sequence[Review]) -> Dataset:
    from datasets import Dataset

    columns: dict[str, list[Any]] = {}
    for name in ("text", "label", "negated"):
        columns[name] = [review[name] for review in reviews]
    return Dataset.from_dict(columns)


def number_labels(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The same rows, with each label's position in `names` for its name."""
    numbers = {name: number for number, name in enumerate(names)}
    labels = [numbers[name] for name in dataset["label"]]
    return dataset.remove_columns("label").add_column("label", labels)


def load_splits(settings: Settings) -> Data:
    """As `load_data`, with labels by name: the source's own test split, or some of its rows held out."""
    splits = read_splits(settings.data)
    if settings.test_data:
        splits["test"] = first_split(read_splits(settings.test_data))
    train = splits.get("train", first_split(splits))
    test = splits.get("test", splits.get("validation"))
    train = select_columns(train, settings, settings.data)
    names = sort_labels(train["label"])
    if test is None:
        train, test = hold_out(train, settings)
    else:
        test = select_columns(test, settings, settings.test_data or settings.data)
        check_labels(test, names)
    train = sample_rows(train, settings.max_train_samples, settings.seed)
    test = sample_rows(test, settings.max_eval_samples, settings.seed)
    return Data(train, test, names)


def check_labels(test: Dataset, names: Sequence[str]) -> None:
    """A label that was never trained on cannot be evaluated."""
    unknown = sorted(set(test["label"]) - set(names))
    if unknown:
        raise DataError(
            f"the label {unknown[0]} appears in the evaluation data but not in the training data"
        )


def first_split(splits: dict[str, Dataset]) -> Dataset:
    return next(iter(splits.values()))


def read_splits(source: str) -> dict[str, Dataset]:
    """Each split by its name. A path that exists is read from the disk, anything else is requested from the hub."""
    from datasets import DatasetDict

    if is_path(source) and not Path(source).exists():
        raise DataError(f"no such file or directory: {source}", MOUNTS_HINT)
    try:
        dataset = read_source(source)
    except DataError:
        raise
    except Exception as error:
        # The reader's own words in one line: datasets wraps the original error twice.
        if "corresponds to no data" in reason(error):
            raise DataError(f"{source} has no rows") from error
        if "contain any data files" in reason(error):
            formats = " ".join(sorted(READERS))
            hint = f"name a file, or a directory with files that end with {formats}"
            raise DataError(
                f"the directory {source} has no data files", hint
            ) from error
        raise DataError(
            f"cannot read {source}: {reason(error)}",
            hint_for(source, error),
        ) from error
    return dict(dataset) if isinstance(dataset, DatasetDict) else {"train": dataset}


def read_source(source: str) -> Any:
    from datasets import load_dataset, load_from_disk

    path = Path(source)
    if path.is_file():
        return read_file(path)
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        return load_from_disk(source)
    if path.is_dir():
        # `.` has no name, which datasets would ask for.
        return load_dataset(str(path.resolve()))
    return load_dataset(source)


def read_file(path: Path) -> Any:
    """A CSV, JSON lines or Parquet file, by its suffix."""
    from datasets import load_dataset

    suffix = path.suffix.lower()
    if suffix not in READERS:
        raise DataError(
            f"unsupported file type: {path}",
            f"supported: {' '.join(sorted(READERS))}",
        )
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    options = {"sep": "\t"} if suffix == ".tsv" else {}
    return load_dataset(READERS[suffix], data_files=str(path), **options)


def is_path(name: str) -> bool:
    """Whether a file or directory is meant: a hub's names have at most one slash, and no such suffix."""
    return (
        name.startswith(("/", ".", "~"))
        or name.count("/") > 1
        or name.lower().endswith(tuple(READERS))
    )


def hint_for(name: str, error: BaseException) -> str:
    """What to change where `name` could not be read."""
    if isinstance(root_cause(error), UnicodeDecodeError):
        return "the file must be UTF-8; to convert it from Latin-1: `iconv -f latin1 -t utf-8`"
    if Path(name).exists():
        return ""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return "the hub was not contacted because HF_HUB_OFFLINE is set: unset it, or pass a local path"
    return "check that the hub, or the mirror in HF_ENDPOINT, is reachable, or pass a local path"


def root_cause(error: BaseException) -> BaseException:
    """The original error: libraries wrap one error in another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def reason(error: BaseException) -> str:
    """The original error in one line."""
    cause = root_cause(error)
    return first_line(cause)[:300] or type(cause).__name__


def hold_out(dataset: Dataset, settings: Settings) -> tuple[Dataset, Dataset]:
    """Some of the rows to evaluate on, the others to train on."""
    rows = len(dataset)
    held_out = settings.max_eval_samples
    if held_out is None:
        fifth = rows // 5
        held_out = max(1, min(500, fifth))
    if held_out >= rows:
        raise DataError(
            f"{settings.data} has {rows} rows, too few to hold out {held_out} for evaluation"
        )
    parts = dataset.train_test_split(test_size=held_out, seed=settings.seed)
    train, test = parts["train"], parts["test"]
    labels = set(train["label"])
    if len(labels) < 2 <= len(set(dataset["label"])):
        raise DataError(
            f"{settings.data} has too few rows to hold some out for evaluation: "
            f"every row that is left to train on has the label {labels.pop()}",
            "add rows, or pass those to evaluate on with --test-data",
        )
    return train, test


def sample_rows(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """A random sample: the first rows of a file often have the same label."""
    if limit is None or limit >= len(dataset):
        return dataset
    return dataset.shuffle(seed=seed).select(range(limit))


def select_columns(dataset: Dataset, settings: Settings, source: str) -> Dataset:
    """Only `text` and `label`, in the order of the source: labels by name, no value missing."""
    from datasets import Dataset

    text_column = find_column(
        dataset, settings.text_column, TEXT_COLUMNS, "--text-column"
    )
    label_column = find_column(
        dataset, settings.label_column, LABEL_COLUMNS, "--label-column"
    )
    if text_column == label_column:
        hint = "choose two columns with --text-column and --label-column"
        raise DataError(f"the column {text_column} cannot be both text and label", hint)
    if len(dataset) == 0:
        raise DataError(f"{source} has no rows")
    texts = list(dataset[text_column])
    names = getattr(dataset.features[label_column], "names", None)
    labels = [label_name(value, names, label_column) for value in dataset[label_column]]
    check_texts(texts, text_column)
    check_no_gaps(texts, text_column, source)
    check_no_gaps(labels, label_column, source)
    return Dataset.from_dict({"text": texts, "label": labels})


def check_texts(values: Iterable[object], column: str) -> None:
    for value in values:
        if value is not None and not isinstance(value, str):
            hint = "choose another column with --text-column"
            raise DataError(f"the column {column} does not contain text", hint)


def check_no_gaps(values: Iterable[str | None], column: str, source: str) -> None:
    for number, value in enumerate(values, 1):
        if value is None or not value.strip():
            raise DataError(f"{place_of(source, number)}: no {column}")


def label_name(value: object, names: Sequence[str] | None, column: str) -> str | None:
    """A label's name, None for a missing one: a hub's numbers have names, and 1.0 is 1."""
    if value is None:
        return None
    if names and isinstance(value, int):
        # -1 is a hub's own mark for a row without a label.
        return names[value] if value >= 0 else None
    if isinstance(value, float):
        # Whole numbers in a file become floats where one of them is missing.
        if math.isnan(value):
            return None
        if value.is_integer():
            return str(int(value))
    if not isinstance(value, (str, int)):
        raise DataError(
            f"the column {column} contains {value}; labels must be words or whole numbers",
            "choose another column with --label-column, or convert the values to classes first",
        )
    return str(value)


def find_column(
    dataset: Dataset,
    requested: str | None,
    usual: Sequence[str],
    option: str,
) -> str:
    """The column that the user named, or the first of the usual ones."""
    candidates = [requested] if requested else usual
    for name in candidates:
        if name in dataset.column_names:
            return name
    columns = ", ".join(repr(name) for name in dataset.column_names)
    hint = f"choose one of them with {option}"
    raise DataError(
        f"no column {' or '.join(candidates)}; the columns are {columns}", hint
    )


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Every label once, in order: numbers as numbers, words as words."""
    unique = sorted(set(labels))
    are_numbers = all(label.lstrip("-").isdigit() for label in unique)
    if are_numbers:
        unique.sort(key=int)
    return unique
