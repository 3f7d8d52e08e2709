"""`finetune` before a library is imported: options, files, columns, splits. The training: tests/container."""

import importlib
import json
import random
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from marks import few

from finetune import __main__ as command
from finetune import columns, options
from finetune.data import Data, load_data
from finetune.files import decode, find_delimiter, read_table
from finetune.options import Settings, parse_settings
from finetune.predict import read_rows
from finetune.report import smoothed
from train.data import DataError
from train.errors import JobError

SHAREGPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]
CHINESE = [
    "这部电影的剧情很精彩，我非常喜欢",
    "演员太糟糕了，音乐也很无聊",
    "难看极了，不推荐",
]


def settings(
    data: object = "data.csv", task: str = "classification", **more: object
) -> Settings:
    return Settings(task=task, model="m", data=str(data), **more)  # type: ignore[arg-type]


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def csv(folder: Path, *rows: str, name: str = "data.csv") -> Path:
    return write(folder / name, "\n".join(rows) + "\n")


def reviews(folder: Path, count: int = 20, name: str = "data.csv") -> Path:
    return csv(
        folder,
        "text,label",
        *(f"text {n},{'ab'[n % 2]}" for n in range(count)),
        name=name,
    )


# --- options ---------------------------------------------------------------------------------------------------------


def refused(
    capsys: pytest.CaptureFixture[str], *words: str, task: str = "causal"
) -> str:
    with pytest.raises(SystemExit) as ended:
        parse_settings(["--task", task, "--model", "m", "--data", "d", *words])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    usage, line = err.splitlines()
    assert usage == "usage: finetune --task TASK --model NAME --data NAME [OPTION …]"
    return line.removeprefix("finetune: error: ")


@pytest.mark.parametrize(
    ("words", "task", "sentence"),
    [
        (["--quantize", "4"], "causal", "--quantize needs --lora"),
        (["--merge"], "causal", "--merge needs --lora"),
        (["--resume", "--overwrite"], "causal", "--resume continues an earlier run"),
        (
            ["--device", "cpu", "--precision", "fp16"],
            "causal",
            "--precision fp16 needs a GPU",
        ),
        (
            ["--metric", "f1"],
            "causal",
            "--metric f1 is not measured for causal: choose loss",
        ),
        (["--multi-label"], "tokens", "--multi-label is for --task classification"),
        (["--packing"], "regression", "--packing is for --task mlm and causal"),
        (["--pair-column", "x"], "mlm", "--pair-column is for --task classification"),
        (
            ["--validation-share", "0"],
            "mlm",
            "--validation-share is a number between 0 and 1",
        ),
        (["--epoch-count", "2"], "mlm", "unrecognized arguments: --epoch-count 2"),
        (["--batch-size", "0"], "mlm", "argument --batch-size"),
        (["--model", "./none"], "mlm", "no such directory: ./none"),
    ],
)
def test_options_that_contradict_are_one_sentence(
    capsys: pytest.CaptureFixture[str], words: list[str], task: str, sentence: str
) -> None:
    assert refused(capsys, *words, task=task).startswith(sentence)


@pytest.mark.parametrize(
    ("words", "task", "package"),
    few(
        [
            (["--lora"], "causal", "peft"),
            (["--lora", "--quantize", "8"], "causal", "peft"),
            ([], "tokens", "evaluate"),
            (["--report-to", "wandb"], "mlm", "wandb"),
        ],
        fast=4,
    ),
)
def test_a_missing_package_is_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    task: str,
    package: str,
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda _: None)
    assert f"needs the package {package}: `pip install {package}`" in refused(
        capsys, *words, task=task
    )


def test_more_tokens_than_the_model_takes_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write(tmp_path / "config.json", '{"max_position_embeddings": 512}')
    line = refused(capsys, "--model", str(tmp_path), "--max-length", "600", "--check")
    assert line == f"--max-length 600: {tmp_path} takes 512 tokens at most"


def test_names_of_trainer_and_defaults() -> None:
    words = "--task causal --model m --data d/chats.jsonl --check --num-train-epochs 2"
    parsed = parse_settings([*words.split(), "--per-device-train-batch-size", "4"])
    assert (parsed.epochs, parsed.batch_size, parsed.packing) == (2, 4, None)
    assert (parsed.learning_rate, parsed.metric, parsed.output) == (
        5e-5,
        "loss",
        "runs/causal-chats",
    )
    assert parse_settings([*words.split(), "--no-packing"]).packing is False


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("text,label", ","), ("text;label", ";"), ("text\tlabel", "\t"), ("text", ",")],
)
def test_the_separator_is_found(header: str, delimiter: str) -> None:
    row = header.replace("text", '"a, b; c"')
    assert find_delimiter(f"{header}\n{row}\n{row}\n") == delimiter


@pytest.mark.parametrize("encoding", ["gb18030", "gbk"])
def test_a_chinese_file_is_read_and_its_encoding_named(
    tmp_path: Path, encoding: str
) -> None:
    rows = [f"{CHINESE[n % 3]},{'好坏'[n % 2]}" for n in range(12)]
    path = write(
        tmp_path / "data.csv",
        "\n".join(["评论,标签", *rows]).replace("，", "、"),
        encoding,
    )
    data = load_data(settings(path))
    assert data.labels == ["坏", "好"]
    assert (
        data.notes[0]
        == f"{path} is GB18030 (detected by charset-normalizer), not UTF-8"
    )
    assert set(data.tables["train"].columns["text"]) <= {
        text.replace("，", "、") for text in CHINESE
    }


def test_a_byte_order_mark_is_no_part_of_a_column(tmp_path: Path) -> None:
    for encoding, notes in (("utf-8-sig", 0), ("utf-16", 1)):
        path = write(tmp_path / "data.csv", "text,label\na,b\n", encoding)
        table = read_table(path, None, None)
        assert list(table.columns) == ["text", "label"]
        assert len(table.notes) == notes


def test_a_wrong_encoding_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path / "data.txt", "a\nb\né", "latin-1")
    with pytest.raises(DataError, match="line 3: not UTF-8"):
        decode(path, "utf-8")
    with pytest.raises(DataError, match="unknown to Python"):
        decode(path, "utf-99")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("data.csv", "", "is empty"),
        ("data.csv", "text,label\n", "has no rows"),
        (
            "data.csv",
            "text,label\na,b\n\na,b,c\n",
            "line 4: 3 fields, and the header has 2",
        ),
        ("data.csv", "text,text\na,b\n", "has 2 columns with the name 'text'"),
        ("data.jsonl", '{"text": "a"}\n{"text"\n', "line 2: not JSON"),
        ("data.jsonl", '{"text": "a"}\n[]\n', "line 2: not a JSON object"),
        ("data.conll", "a B\n\nb\n", "line 3: a token without a tag"),
        ("data.docx", "x", "unsupported file type"),
    ],
)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path / name, text), None, None)


def test_quoted_line_breaks_keep_the_lines_of_rows(tmp_path: Path) -> None:
    path = csv(tmp_path, "text,label", '"a', 'b",x', "", " ,y")
    table = read_table(path, None, None)
    assert table.columns["text"] == ["a\nb", " "]
    assert table.lines == [2, 5]
    with pytest.raises(DataError, match="line 5: no text"):
        load_data(settings(path))


# --- columns and splits ----------------------------------------------------------------------------------------------


def test_an_unknown_column_is_answered_with_those_that_exist(
    tmp_path: Path,
) -> None:
    path = csv(tmp_path, "id,body,label", "1,a,b")
    with pytest.raises(
        DataError, match="no column for the text; its columns are 'id', 'body', 'label'"
    ) as error:
        load_data(settings(path))
    assert error.value.hint == "choose one of them with --text-column"
    with pytest.raises(DataError, match="no column 'texts'"):
        load_data(settings(path, text_column="texts"))


def test_held_out_rows_have_each_label_and_follow_the_seed(tmp_path: Path) -> None:
    path = reviews(tmp_path, 40)

    def held_out(seed: int) -> list[str]:
        table = load_data(settings(path, seed=seed)).tables["validation"]
        assert sorted(table.columns["label"]) == ["a", "a", "b", "b"]
        return table.columns["text"]

    assert held_out(0) == held_out(0) != held_out(1)


def test_a_label_of_one_split_only_is_refused(tmp_path: Path) -> None:
    reviews(tmp_path, name="train.csv")
    other = csv(tmp_path, "text,label", "new,c", name="dev.csv")
    with pytest.raises(DataError, match="the label c is not in the training data"):
        load_data(settings(tmp_path))
    other.unlink()
    with pytest.raises(DataError, match="all 3 training rows have the label a"):
        load_data(settings(csv(tmp_path, "text,label", *["x,a"] * 3)))


def test_the_files_of_a_directory_are_its_splits(tmp_path: Path) -> None:
    for name in ("train-1.csv", "train-2.csv", "dev.csv", "test.csv"):
        reviews(tmp_path, 4, name)
    data = load_data(settings(tmp_path))
    sizes = {split: len(table) for split, table in data.tables.items()}
    assert sizes == {"train": 8, "validation": 4, "test": 4}
    assert data.notes == [
        "warning: 4 of 4 validation texts are in the training data too",
        "warning: 4 of 4 test texts are in the training data too",
    ]


def test_several_labels_of_a_row(tmp_path: Path) -> None:
    rows = [f'text {n},"{", ".join("abc"[: n % 4])}"' for n in range(12)]
    data = load_data(settings(csv(tmp_path, "text,label", *rows), multi_label=True))
    assert data.labels == ["a", "b", "c"]
    assert [] in data.tables["train"].columns["label"]
    lines = [
        json.dumps({"text": f"{n}", "labels": ["a", "b"][: n % 3]}) for n in range(12)
    ]
    found = settings(write(tmp_path / "data.jsonl", "\n".join(lines)))
    assert load_data(found).labels == ["a", "b"]
    assert found.multi_label


def test_a_regression_needs_numbers(tmp_path: Path) -> None:
    path = csv(tmp_path, "text,score", "a,1", "b,2.5", "c,many")
    with pytest.raises(DataError, match="line 4: score is 'many', which is no number"):
        load_data(settings(path, "regression"))


def test_tags_are_as_many_as_tokens(tmp_path: Path) -> None:
    text = "-DOCSTART- O\n\nAnna NNP B-PER\nruns VB O\n\nBob NNP B-PER\n\nEve NNP B-PER\nis VB O\n"
    data = load_data(settings(write(tmp_path / "data.conll", text), "tokens"))
    assert data.labels == ["B-PER", "O"]
    lines = '{"tokens": "a b", "tags": "O O"}\n{"tokens": ["a"], "ner_tags": ["O"]}\n'
    with pytest.raises(DataError, match="line 2: 1 tokens and 0 tags"):
        load_data(settings(write(tmp_path / "data.jsonl", lines), "tokens"))


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"prompt": "q", "completion": "r"}, [("user", "q"), ("assistant", "r")]),
        (
            {"instruction": "q", "input": "i", "output": "r"},
            [("user", "q\n\ni"), ("assistant", "r")],
        ),
        (
            {"instruction": "q", "input": "", "output": "r"},
            [("user", "q"), ("assistant", "r")],
        ),
        ({"conversations": SHAREGPT}, [("user", "q"), ("assistant", "r")]),
        ({"text": "only"}, None),
    ],
)
def test_chats_are_found_in_the_usual_shapes(
    tmp_path: Path, row: dict[str, object], answer: list[tuple[str, str]] | None
) -> None:
    path = write(tmp_path / "data.jsonl", f"{json.dumps(row)}\n" * 3)
    table = columns.read_messages(
        read_table(path, None, None), settings(path, "causal")
    )
    if answer is None:
        assert table == {"text": ["only"] * 3}
        return
    wanted = [{"role": role, "content": content} for role, content in answer]
    assert table == {"messages": [wanted] * 3}


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user", "content": "q"}], "no message of the assistant"),
        ([{"role": "bot", "content": "q"}], "a message needs role"),
        (["q"], "a message is no object"),
    ],
)
def test_a_chat_without_an_answer_names_its_line(
    tmp_path: Path, messages: object, message: str
) -> None:
    path = write(tmp_path / "data.jsonl", json.dumps({"messages": messages}))
    with pytest.raises(DataError, match=f"line 1: {message}"):
        load_data(settings(path, "causal"))


def test_rows_to_predict_need_no_label(tmp_path: Path) -> None:
    path = csv(tmp_path, "sentence1,sentence2", "a,b")
    assert read_rows(str(path), settings()).columns == {"text": ["a"], "pair": ["b"]}
    assert read_rows(
        str(path), settings(task="tokens", text_column="sentence1")
    ).columns == {"tokens": [["a"]]}


# --- the directory of a run ------------------------------------------------------------------------------------------


def test_nothing_is_overwritten_unless_the_user_says_so(tmp_path: Path) -> None:
    mine, old = (
        write(tmp_path / "notes.txt", "mine"),
        write(tmp_path / "metrics.json", "{}"),
    )
    with pytest.raises(JobError, match="is not empty"):
        command.check_output(tmp_path, settings())
    again = settings(overwrite=True)
    command.check_output(tmp_path, again)
    command.prepare_output(tmp_path, again)
    assert mine.exists()
    assert not old.exists()


def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    command.prepare_output(tmp_path, settings(batch_size=8))
    command.check_output(tmp_path, settings(batch_size=8, resume=True, log_every=1))
    with pytest.raises(JobError, match="was started with --batch-size 8, not 4"):
        command.check_output(tmp_path, settings(batch_size=4, resume=True))


def test_an_upload_without_a_token_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(JobError, match="--push-to-hub needs a token"):
        command.check_token(settings(push_to_hub="me/model"))
    write(tmp_path / "token", "hf_x")
    command.check_token(settings(push_to_hub="me/model"))


@pytest.fixture
def compat(monkeypatch: pytest.MonkeyPatch) -> Any:
    """finetune/compat.py with libraries that do nothing."""
    for name in ("torch", "transformers", "transformers.trainer"):
        monkeypatch.setitem(sys.modules, name, MagicMock(__version__="1"))
    monkeypatch.delitem(sys.modules, "finetune.compat", raising=False)
    yield importlib.import_module("finetune.compat")
    del sys.modules["finetune.compat"]


def test_a_checkpoint_that_may_hide_code_needs_the_users_word(compat: Any) -> None:
    trainer = sys.modules["transformers"].trainer  # type: ignore[attr-defined]
    trainer.check_torch_load_is_safe = check = MagicMock(side_effect=ValueError)
    with pytest.raises(JobError, match="does not load checkpoints safely") as error:
        compat.check_checkpoint(False)
    assert error.value.hint.endswith("add --trust-checkpoint")
    compat.check_checkpoint(True)
    trainer.check_torch_load_is_safe()
    assert check.call_count == 1


def test_arguments_have_the_names_of_the_release(compat: Any) -> None:
    values = {"eval_strategy": "epoch", "use_cpu": True, "save_safetensors": True}
    old = compat.renamed(values, ("evaluation_strategy", "no_cuda"))
    assert old == {"evaluation_strategy": "epoch", "no_cuda": True}
    assert compat.renamed(values, tuple(values)) == values
    with pytest.raises(JobError, match="has no eval_strategy"):
        compat.renamed(values, ("no_cuda",))


def test_what_a_report_says_of_the_data(tmp_path: Path) -> None:
    data = load_data(settings(reviews(tmp_path)))
    lines = command.describe(data, settings())
    assert lines["train"] == f"18 rows of {tmp_path}/data.csv"
    assert lines["labels to train on"] == "a 9, b 9"
    assert isinstance(data, Data)


def test_a_smoothed_curve_starts_at_its_first_value() -> None:
    noise = random.Random(0)
    points = [(step, 1 + noise.random()) for step in range(200)]
    curve = smoothed(points)
    assert curve[0] == pytest.approx(points[0])
    values = [value for _, value in curve[50:]]
    assert max(values) - min(values) < 0.4
