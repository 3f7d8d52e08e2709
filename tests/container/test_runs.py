"""Runs of `train` that are cut off, and data that cannot be trained on, in the image."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from .engine import Image, docker

ALONE = (
    "--env",
    "OMP_NUM_THREADS=1",
)  # two threads on a busy machine are many times slower than one
SHORT = (
    "--epochs",
    "2",
    "--max-train-samples",
    "640",
    "--max-eval-samples",
    "100",
    "--save-every",
    "5",
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    os.chown(tmp_path, 1000, 1000)
    tmp_path.chmod(0o755)
    return tmp_path


def start(image: Image, runs: Path, name: str, *words: str) -> "subprocess.Popen[str]":
    options = [
        "--rm",
        *ALONE,
        "--name",
        name,
        "--network",
        "none",
        "--volume",
        f"{runs}:/runs",
        image.id,
    ]
    return subprocess.Popen(
        ["docker", "run", *options, "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def losses(runs: Path, name: str) -> list[float]:
    found: list[float] = json.loads((runs / name / "metrics.json").read_text())[
        "losses"
    ]
    return found


def wait_for(path: Path) -> None:
    wait_until(path.exists, f"{path} does not come")


def test_killed_run_resumes_with_the_same_losses(image: Image, runs: Path) -> None:
    options = [
        "run",
        "--rm",
        *ALONE,
        "--volume",
        f"{runs}:/runs",
        image.id,
        "train",
        *SHORT,
    ]
    docker(*options, "--output", "/runs/whole")
    name = f"envbuilder-test-{os.getpid()}"
    process = start(image, runs, name, *SHORT, "--output", "/runs/killed")
    wait_for(runs / "killed" / "checkpoint-10")
    docker("kill", "--signal", "KILL", name, check=False)
    process.communicate()
    assert not (runs / "killed" / "metrics.json").exists()
    docker(*options, "--output", "/runs/killed", "--resume")
    assert losses(runs, "killed") == losses(runs, "whole")
    assert len(losses(runs, "whole")) == 40


def test_run_cut_off_before_an_evaluation_resumes_the_same(
    image: Image, runs: Path
) -> None:
    """The checkpoint of an epoch's last batch: the evaluation was lost, and the next epoch had the same order."""
    options = [
        "run",
        "--rm",
        *ALONE,
        "--network",
        "none",
        "--volume",
        f"{runs}:/runs",
        image.id,
        "train",
        *SHORT,
        "--save-every",
        "20",
        "--output",
        "/runs/one",
    ]
    docker(*options)
    file = runs / "one" / "metrics.json"
    whole = json.loads(file.read_text())
    shutil.rmtree(runs / "one" / "checkpoint-40")
    assert "resuming after batch 20 of 40" in docker(*options, "--resume").stdout
    resumed = json.loads(file.read_text())
    assert resumed["losses"] == whole["losses"]
    assert resumed["epochs"] == whole["epochs"]


def test_new_run_removes_old_checkpoints_and_curves(image: Image, runs: Path) -> None:
    """The ones of the run before have higher numbers: they outlived it, and the next --resume took them."""
    options = [
        "run",
        "--rm",
        *ALONE,
        "--network",
        "none",
        "--volume",
        f"{runs}:/runs",
        image.id,
        "train",
        *SHORT,
    ]
    options += ["--output", "/runs/one"]
    docker(*options)
    shorter = [*options, "--max-train-samples", "320"]
    said = docker(*shorter).stdout
    removed = "checkpoint-35, checkpoint-40, metrics.json, metrics.jsonl, tensorboard"
    assert f"removed from an earlier run in /runs/one: {removed}\n" in said
    kept = sorted(path.name for path in (runs / "one").glob("checkpoint-*"))
    assert kept == ["checkpoint-15", "checkpoint-20"]
    assert len(list((runs / "one" / "tensorboard").iterdir())) == 1
    said = docker(*shorter, "--resume").stdout
    assert "resuming after batch 20 of 20" in said
    assert "removed" not in said


def test_an_interrupt_saves_and_ends_with_130(image: Image, runs: Path) -> None:
    name = f"envbuilder-test-{os.getpid()}"
    process = start(
        image,
        runs,
        name,
        "--epochs",
        "900",
        "--max-train-samples",
        "640",
        "--output",
        "/runs/cut",
    )
    wait_for(runs / "cut" / "checkpoint-20")
    docker("kill", "--signal", "INT", name)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted: saving" in err
    assert "continue with `--resume`" in out


def test_a_full_disk_is_explained_and_leaves_whole_checkpoints_only(
    image: Image,
) -> None:
    job = f"train {' '.join(SHORT)} --output /small/run; echo $?; ls -A /small/run"
    options = [
        "--rm",
        *ALONE,
        "--network",
        "none",
        "--tmpfs",
        "/small:size=8m,mode=1777",
    ]
    done = docker("run", *options, image.id, "sh", "-c", job)
    assert (
        done.stderr
        == "error: the disk is full\nhint: free some space, then continue from the last checkpoint with `--resume`\n"
    )
    # On a busy machine there is a line of progress.
    lines = [line for line in done.stdout.splitlines() if not line.startswith("step ")]
    assert lines[1:] == ["1", "checkpoint-5", "metrics.jsonl", "tensorboard"]


def test_damaged_checkpoint_is_reported_and_the_previous_one_resumes(
    image: Image, runs: Path
) -> None:
    options = [
        "run",
        "--rm",
        *ALONE,
        "--network",
        "none",
        "--volume",
        f"{runs}:/runs",
        image.id,
        "train",
        *SHORT,
    ]
    options += ["--output", "/runs/one"]
    docker(*options)
    whole = losses(runs, "one")
    last = runs / "one" / "checkpoint-40"
    weights = last / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    left = (
        runs / "one" / ".checkpoint-killed"
    )  # of a run that was killed while it saved
    left.mkdir()
    refused = docker(*options, "--resume", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: cannot read /runs/one/checkpoint-40: ")
    assert "\nhint: remove it (`rm -r /runs/one/checkpoint-40`)" in refused.stderr
    shutil.rmtree(last)
    assert "resuming after batch 35 of 40" in docker(*options, "--resume").stdout
    assert losses(runs, "one") == whole
    assert not left.exists()


# --- user data and models --------------------------------------------------------------------------------------------

ROWS = "".join(f"a film number {number},{number % 2}\n" for number in range(20))
COLUMNS = (
    "choose another column with --label-column, or convert the values to classes first"
)
MOUNTS = "inside a container only mounted paths exist: `docker run --volume DIR:DIR …`"
CASES: list[tuple[bytes, str, list[object]]] = [  # a file, its name and options; rows and names, or error and hint
    (f"text,label\n{ROWS}".encode("utf-8-sig"), "bom.csv", [16, 4, ["0", "1"]]),
    (f"text,label\n{ROWS}".replace(",", "\t").encode(), "capitals.TSV", [16, 4, ["0", "1"]]),
    (b"text,label\n" + ROWS.replace("1\n", "1.0\n").encode(), "float.csv", [16, 4, ["0", "1"]]),
    (b'{"text": "a", "label": true}\n{"text": "b", "label": false}\n' * 5, "truth.jsonl", [8, 2, ["False", "True"]]),
    (f"label,text\n{ROWS}".encode(), "swapped.csv --text-column label --label-column text", [16, 4, ["0", "1"]]),
    (f"text,label\n{ROWS}rare,7\n".encode(), "rare.csv", [17, 4, ["0", "1", "7"]]),
    (b"", "nothing.csv", ["/runs/nothing.csv is empty", ""]),
    (b"text,label\n", "header.csv", ["/runs/header.csv has no rows", ""]),
    (b"text,label\ngood,1\nfine,1\nnice,1\n", "one.csv --max-eval-samples 1",
     ["all 2 training rows have the label 1: there is nothing to learn", ""]),
    (b"a;b\ngood;1\n", "semicolons.csv",
     ["no column text or sentence or review or content; the columns are 'a;b'",
      "choose one of them with --text-column"]),
    (b"text,label\ngood,1\n", "wrong.csv --text-column body",
     ["no column body; the columns are 'text', 'label'", "choose one of them with --text-column"]),
    (b"text,label\ngood,1\n", "same.csv --text-column label",
     ["the column label cannot be both text and label", "choose two columns with --text-column and --label-column"]),
    (b"text,label\ngood,1\nbad,\nfine,1\n", "gap.csv", ["/runs/gap.csv, line 3: no label", ""]),
    (b"text,label\ngood,1\n  ,0\nfine,1\n", "blank.csv", ["/runs/blank.csv, line 3: no text", ""]),
    (b"text,label\ngood,positive\nbad,negative\n", "pair.csv",
     ["/runs/pair.csv has too few rows to hold some out for evaluation: every row that is left to "
      "train on has the label negative", "add rows, or pass those to evaluate on with --test-data"]),
    (b"", "none.txt --data /runs/empty",
     ["the directory /runs/empty has no data files",
      "name a file, or a directory with files that end with .csv .json .jsonl .parquet .tsv"]),
    (b"", "here.txt --data .", [16, 4, ["0", "1"]]),
    (b"text,label\ngood,0.5\nbad,0.25\n", "score.csv",
     ["the column label contains 0.5; labels must be words or whole numbers", COLUMNS]),
    (b'{"text": "a", "label": [1, 0]}\n', "lists.jsonl",
     ["the column label contains [1, 0]; labels must be words or whole numbers", COLUMNS]),
    (b"text,label\n1,1\n2,0\n", "numbers.csv",
     ["the column text does not contain text", "choose another column with --text-column"]),
    (b"text,label\ngood,1\nbad,0\n", "few.csv --max-eval-samples 5",
     ["/runs/few.csv has 2 rows, too few to hold out 5 for evaluation", ""]),
    (b"text,label\ncaf\xe9,1\n", "latin.csv",
     ["cannot read /runs/latin.csv: 'utf-8' codec can't decode byte 0xe9 in position 14: invalid continuation byte",
      "the file must be UTF-8; to convert it from Latin-1: `iconv -f latin1 -t utf-8`"]),
    (b"", "packed.csv.gz",
     ["unsupported file type: /runs/packed.csv.gz", "supported: .csv .json .jsonl .parquet .tsv"]),
    (b"text,label\ngood,2\nbad,1\n", "strange.csv --data /runs/rare.csv --test-data /runs/strange.csv",
     ["the label 2 appears in the evaluation data but not in the training data", ""]),
    (b"", "none.csv --data /runs/absent.csv",
     ["no such file or directory: /runs/absent.csv", MOUNTS]),
]  # fmt: skip
LOAD = """
import json, sys
sys.path.insert(0, "/opt/envbuilder/payload")
from train import data, options
for words in json.loads(sys.argv[1]):
    try:
        train, test, names = data.load_data(options.parse_settings(["--model", "/nothing", "--data", *words]))
        print(json.dumps([len(train), len(test), names]))
    except data.DataError as error:
        print(json.dumps([str(error), error.hint]))
"""


def test_user_data_is_read_or_its_error_is_explained(image: Image, runs: Path) -> None:
    words = []
    for content, name, _ in CASES:
        file, *options = name.split()
        (runs / file).write_bytes(content)
        words.append([f"/runs/{file}", *options])
    (runs / "empty").mkdir()
    (runs / "folder").mkdir()
    (runs / "folder" / "rows.csv").write_text(f"text,label\n{ROWS}")
    mount = ["--rm", "--network", "none", "--volume", f"{runs}:/runs:ro"]
    mount += ["--workdir", "/runs/folder"]
    done = docker("run", *mount, image.id, "python", "-c", LOAD, json.dumps(words))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert dict(zip(map(str, words), found, strict=True)) == {
        str(word): answer for word, (_, _, answer) in zip(words, CASES, strict=True)
    }


def test_errors_are_a_line_and_a_hint_without_traceback(image: Image) -> None:
    words = ["--model", "/nothing", "--data", "/absent.csv"]
    done = docker(
        "run", "--rm", "--network", "none", image.id, "train", *words, check=False
    )
    assert (done.returncode, done.stderr) == (
        1,
        f"error: no such file or directory: /absent.csv\nhint: {MOUNTS}\n",
    )


MODELS = """
import json, os, sys
sys.argv[1:] = []
sys.path.insert(0, "/opt/envbuilder/payload")
from train import job as train, options
os.chdir("/tmp")
tokenizer = train.make_tokenizer()
settings = options.parse_settings(["--model", "base", "--data", "x.csv", "--max-length", "24"])
model = train.make_model(options.parse_settings([]), len(tokenizer))


def look(name, change, labels="ab", length=24):
    os.makedirs(name)
    model.save_pretrained(name, safe_serialization=True)
    tokenizer.save_pretrained(name)
    change(name)
    settings.model, settings.max_length = name, length
    try:
        answer = train.load_model(settings, list(labels))[0].config.num_labels
    except train.JobError as error:
        answer = [str(error), error.hint]
    print(json.dumps(answer))


def edit(**values):
    def change(folder):
        path = os.path.join(folder, "config.json")
        with open(path) as stream:
            config = json.load(stream)
        with open(path, "w") as stream:
            json.dump(dict(config, **values), stream)
    return change


look("same", edit())
look("more_labels", edit(), "abc")
look("long", edit(), length=512)
look("other_kind", edit(model_type="roberta"))
look("other_size", edit(vocab_size=7))
look("cut", lambda folder: os.truncate(folder + "/model.safetensors", 5000))
look("empty", lambda folder: os.remove(folder + "/config.json"))
settings.model = "./absent"
try:
    train.load_model(settings, ["a", "b"])
except train.JobError as error:
    print(json.dumps([str(error), error.hint]))
"""


def test_local_model_is_loaded_or_its_error_is_explained(image: Image) -> None:
    done = docker("run", "--rm", "--network", "none", image.id, "python", "-c", MODELS)
    same, more, long, kind, size, cut, empty, absent = map(
        json.loads, done.stdout.splitlines()
    )
    assert (same, more) == (2, 3)
    assert long == ["--max-length 512 exceeds this model's limit of 64 tokens", ""]
    assert kind == [
        "model other_kind is of type roberta; this job trains BERT models only",
        "",
    ]
    embeddings = "bert.embeddings.word_embeddings.weight"
    assert size == [
        f"model other_size does not match its config.json: {embeddings} has a different size",
        "",
    ]
    assert cut[0].startswith("cannot load model cut: ")
    assert cut[1] == ""
    assert empty == ["empty is not a model directory: it has no config.json", ""]
    assert absent == ["no such directory: ./absent", MOUNTS]
