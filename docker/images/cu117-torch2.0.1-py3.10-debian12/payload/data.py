"""Where the texts come from: the bundled reviews, a hub, a folder or a file; checked before anything is trained.

A dataset has the columns `text` and `label` (0, 1, …). Everything that can be wrong with somebody's data is a
`DataError` that names the column, the file or the row.
"""

import os

from errors import JobError
from options import BUNDLED
from reviews import make_reviews

TEXT_COLUMNS = ("text", "sentence", "review", "content")
LABEL_COLUMNS = ("label", "labels", "sentiment", "target")
READERS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


class DataError(JobError):
    """The data cannot be trained on, and why; `hint` says what to change."""


def load_data(settings):
    """(rows to train on, rows to evaluate on, names of the labels)."""
    from datasets import Dataset

    if settings.data == BUNDLED:
        rows, held_out = make_reviews(settings.rows, settings.held_out)
        columns = ("text", "label", "negated")
        both = [Dataset.from_dict({name: [row[name] for row in part] for name in columns}) for part in (rows, held_out)]
        return both[0], both[1], ["negative", "positive"]
    splits = read_splits(settings.data)
    if settings.test_data:
        splits["test"] = next(iter(read_splits(settings.test_data).values()))
    train, test = choose_splits(splits, settings)
    train, test = (clean(part, settings) for part in (train, test))
    names = label_names(train)
    if len(names) < 2:
        raise DataError("all rows have one label, %s: there is nothing to tell apart" % names[0])
    strange = sorted(set(label_names(test)) - set(names))
    if strange:
        raise DataError("the label %s is in the rows to evaluate on, and not in those to train on" % strange[0])
    numbers = {name: number for number, name in enumerate(names)}
    train, test = (
        part.remove_columns("label").add_column("label", [numbers[str(value)] for value in part["label"]])
        for part in (train, test)
    )
    return train, test, names


def read_splits(source):
    """Name of a split → dataset. A path that is there is read from the disk, anything else asked of the hub."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    try:
        if os.path.isfile(source):
            kind = READERS.get(os.path.splitext(source)[1].lower())
            if kind is None:
                raise DataError(
                    "%s is of no kind that can be read" % source, "give one of %s" % " ".join(sorted(READERS))
                )
            extra = {"sep": "\t"} if source.endswith(".tsv") else {}
            found = load_dataset(kind, data_files=source, **extra)
        elif os.path.isdir(source) and (
            os.path.exists(os.path.join(source, "dataset_dict.json"))
            or os.path.exists(os.path.join(source, "state.json"))
        ):
            found = load_from_disk(source)
        else:
            found = load_dataset(source)
    except DataError:
        raise
    except Exception as error:  # the reader's own words, in one line: datasets wraps whatever broke, twice
        hint = "" if os.path.exists(source) else "a hub or a mirror (HF_ENDPOINT) must be reachable, or give a file"
        raise DataError("%s cannot be read: %s" % (source, reason(error)), hint) from error
    return dict(found) if isinstance(found, DatasetDict) else {"train": found}


def reason(error):
    """The first line of what went wrong at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = (str(error).strip().split("\n") or [""])[0][:300]
    return text or type(error).__name__


def choose_splits(splits, settings):
    """The rows to train on and to evaluate on: the splits of these names, or some of the first held out."""
    train = splits.get("train", next(iter(splits.values())))
    test = next((splits[name] for name in ("test", "validation") if name in splits), None)
    if len(train) == 0:
        raise DataError("%s has no rows" % settings.data)
    if test is None:
        held_out = settings.held_out or max(1, min(500, len(train) // 5))
        if held_out >= len(train):
            raise DataError("%s has %d rows: %d cannot be held out of them" % (settings.data, len(train), held_out))
        parts = train.train_test_split(test_size=held_out, seed=settings.seed)
        train, test = parts["train"], parts["test"]
    return some(train, settings.rows, settings.seed), some(test, settings.held_out, settings.seed)


def some(dataset, rows, seed):
    """So many rows, drawn: the first ones of a file are often of one label."""
    return dataset.shuffle(seed=seed).select(range(rows)) if rows and rows < len(dataset) else dataset


def clean(dataset, settings):
    """The columns `text` and `label` alone, every value there."""
    text = pick(dataset, settings.text_column, TEXT_COLUMNS, "--text-column")
    label = pick(dataset, settings.label_column, LABEL_COLUMNS, "--label-column")
    names = getattr(dataset.features[label], "names", None)
    dataset = dataset.select_columns([text, label]) if text != label else dataset
    for old, new in ((text, "text"), (label, "label")):
        if old != new:
            dataset = dataset.rename_column(old, new)
    for column in ("text", "label"):
        missing = next((number for number, value in enumerate(dataset[column], 1) if value in (None, "")), None)
        if missing:
            raise DataError("row %d has no %s" % (missing, column))
    if not all(isinstance(value, str) for value in dataset[:100]["text"]):
        raise DataError("the column %s holds no text" % text)
    if names:
        spelt = [names[number] for number in dataset["label"]]
        dataset = dataset.remove_columns("label").add_column("label", spelt)
    return dataset


def pick(dataset, wanted, usual, option):
    """The column somebody named, or the first of the usual ones."""
    found = [wanted] if wanted else list(usual)
    for name in found:
        if name in dataset.column_names:
            return name
    said = "there is no column %s" % wanted if wanted else "no column is called %s" % ", ".join(usual)
    raise DataError("%s; there are: %s (%s NAME)" % (said, ", ".join(dataset.column_names), option))


def label_names(dataset):
    """Every label once, in order: numbers as numbers, words as words."""
    found = {str(value) for value in dataset["label"]}
    whole = all(value.lstrip("-").isdigit() for value in found)
    return sorted(found, key=int) if whole else sorted(found)
