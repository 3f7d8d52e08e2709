"""Where the texts come from: the bundled reviews, a hub, a folder or a file; checked before anything is trained.

A dataset has the columns `text` and `label` (0, 1, …). Everything that can be wrong with somebody's data is a
`DataError` that names the column, the file or the row.
"""

import math
import os

from train.errors import JobError
from train.options import BUNDLED
from train.reviews import make_reviews

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
    train, test, names = choose_rows(settings)
    present = label_names(train)
    if len(present) < 2:
        said = "all %d rows to train on have one label, %s: there is nothing to tell apart"
        raise DataError(said % (len(train), present[0]))
    numbers = {name: number for number, name in enumerate(names)}
    train, test = (
        part.remove_columns("label").add_column("label", [numbers[name] for name in part["label"]])
        for part in (train, test)
    )
    return train, test, names


def choose_rows(settings):
    """As `load_data`, with labels by name: the source's own test split, or some of the rows held out."""
    splits = read_splits(settings.data)
    if settings.test_data:
        splits["test"] = next(iter(read_splits(settings.test_data).values()))
    train = clean(splits.get("train", next(iter(splits.values()))), settings)
    test = splits.get("test", splits.get("validation"))
    names = label_names(train)
    if test is None:
        train, test = hold_out(train, settings)
    else:
        test = clean(test, settings)
        strange = sorted(set(label_names(test)) - set(names))
        if strange:
            raise DataError("the label %s is in the rows to evaluate on, and not in those to train on" % strange[0])
    return some(train, settings.rows, settings.seed), some(test, settings.held_out, settings.seed), names


def read_splits(source):
    """Name of a split → dataset. A path that is there is read from the disk, anything else asked of the hub."""
    from datasets import DatasetDict, load_dataset, load_from_disk

    if is_path(source) and not os.path.exists(source):
        raise DataError("there is no file or folder %s" % source, "in a container there is what was mounted, no more")
    try:
        if os.path.isfile(source):
            found = read_file(source)
        elif any(os.path.exists(os.path.join(source, name)) for name in ("dataset_dict.json", "state.json")):
            found = load_from_disk(source)
        else:
            found = load_dataset(source)
    except DataError:
        raise
    except Exception as error:  # the reader's own words, in one line: datasets wraps whatever broke, twice
        if "corresponds to no data" in reason(error):
            raise DataError("%s has no rows" % source) from error
        raise DataError("%s cannot be read: %s" % (source, reason(error)), hint_for(source, error)) from error
    return dict(found) if isinstance(found, DatasetDict) else {"train": found}


def read_file(path):
    """A CSV, JSON lines or Parquet file, by its ending."""
    from datasets import load_dataset

    ending = os.path.splitext(path)[1].lower()
    if ending not in READERS:
        raise DataError("%s is of no kind that can be read" % path, "give one of %s" % " ".join(sorted(READERS)))
    if os.path.getsize(path) == 0:
        raise DataError("%s is empty" % path)
    return load_dataset(READERS[ending], data_files=path, **({"sep": "\t"} if ending == ".tsv" else {}))


def is_path(name):
    """Whether somebody means a file or a folder: a hub's names have one slash at most, and no such ending."""
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or name.lower().endswith(tuple(READERS))


def hint_for(name, error):
    """What to change where `name` could not be read."""
    if isinstance(bottom(error), UnicodeDecodeError):
        return "it must be UTF-8; `iconv -f latin1 -t utf-8` makes it so from Latin-1"
    if os.path.exists(name):
        return ""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return "no hub was asked, for HF_HUB_OFFLINE is set: unset it, or give a file or a folder"
    return "a hub or a mirror (HF_ENDPOINT) must be reachable, or give a file or a folder"


def bottom(error):
    """What went wrong at first: libraries wrap one error in another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def reason(error):
    """The first line of what went wrong at the bottom."""
    error = bottom(error)
    text = (str(error).strip().split("\n") or [""])[0][:300]
    return text or type(error).__name__


def hold_out(rows, settings):
    """Some of the rows to evaluate on, the others to train on."""
    held_out = settings.held_out or max(1, min(500, len(rows) // 5))
    if held_out >= len(rows):
        raise DataError("%s has %d rows: %d cannot be held out of them" % (settings.data, len(rows), held_out))
    parts = rows.train_test_split(test_size=held_out, seed=settings.seed)
    return parts["train"], parts["test"]


def some(dataset, rows, seed):
    """So many rows, drawn: the first ones of a file are often of one label."""
    return dataset.shuffle(seed=seed).select(range(rows)) if rows and rows < len(dataset) else dataset


def clean(dataset, settings):
    """The columns `text` and `label` alone, in the order of the source; labels by name, every value there."""
    from datasets import Dataset

    text = pick(dataset, settings.text_column, TEXT_COLUMNS, "--text-column")
    label = pick(dataset, settings.label_column, LABEL_COLUMNS, "--label-column")
    if text == label:
        raise DataError("the column %s cannot be both text and label" % text, "see --text-column and --label-column")
    if len(dataset) == 0:
        raise DataError("%s has no rows" % settings.data)
    names = getattr(dataset.features[label], "names", None)
    texts, labels = dataset[text], [spell(value, names, label) for value in dataset[label]]
    if not all(isinstance(value, (str, type(None))) for value in texts):
        raise DataError("the column %s holds no text" % text, "name another by --text-column")
    for column, values in ((text, texts), (label, labels)):
        missing = next((number for number, value in enumerate(values, 1) if not (value or "").strip()), None)
        if missing:
            raise DataError("row %d has no %s" % (missing, column))
    return Dataset.from_dict({"text": list(texts), "label": labels})


def spell(value, names, column):
    """A label's name: a hub's numbers have names (and -1 says that there is none), 1.0 is 1; None for a missing one."""
    if names and isinstance(value, int):
        return names[value] if value >= 0 else None
    if isinstance(value, float):  # a file's whole numbers become floats where one of them is missing
        if math.isnan(value):
            return None
        if value.is_integer():
            return str(int(value))
    if not isinstance(value, (str, int, type(None))):
        raise DataError(
            "the column %s holds %s: a label is a word or a whole number" % (column, value),
            "name another by --label-column, or put the values into classes first",
        )
    return None if value is None else str(value)


def pick(dataset, wanted, usual, option):
    """The column somebody named, or the first of the usual ones."""
    found = [wanted] if wanted else list(usual)
    for name in found:
        if name in dataset.column_names:
            return name
    said = "there is no column %s" % wanted if wanted else "no column is called %s" % ", ".join(usual)
    raise DataError("%s; there are: %s (%s NAME)" % (said, ", ".join(map(repr, dataset.column_names)), option))


def label_names(dataset):
    """Every label once, in order: numbers as numbers, words as words."""
    found = set(dataset["label"])
    whole = all(value.lstrip("-").isdigit() for value in found)
    return sorted(found, key=int) if whole else sorted(found)
