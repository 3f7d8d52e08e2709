"""The fine-tune's command line, without torch; what it learns is measured in tests/container."""

import ast
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
from marks import few
from mutants.catalog import EDITS
from waiting import PATIENCE

from train import interrupts, options, progress

from .conftest import PAYLOAD


def test_the_measured_defaults() -> None:
    settings = vars(options.parse_settings([]))
    measured = {
        "max_train_samples": 2000, "max_eval_samples": 500, "epochs": 4, "batch_size": 32, "learning_rate": 1e-3,
        "warmup": 0.1, "max_length": 24, "num_layers": 2, "hidden_size": 128, "num_heads": 2, "seed": 0,
        "device": "auto", "pad_to_max_length": True, "precision": "fp32",
    }  # fmt: skip
    assert settings.items() >= measured.items()


def test_guide_job_uses_the_numbers_of_the_guide() -> None:
    settings = vars(
        options.parse_settings(["--model", "bert-base-uncased", "--data", "imdb"])
    )
    guide = {
        "epochs": 3, "batch_size": 8, "learning_rate": 5e-5, "warmup": 0.0, "max_length": 512,
        "max_train_samples": None, "pad_to_max_length": False,
    }  # fmt: skip
    assert settings.items() >= guide.items()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-train-samples", "60000"], "there are only 17920 bundled reviews"),
        (
            ["--rows", "0"],
            "argument --max-train-samples/--rows: '0' is not a whole number of 1 or more",
        ),
        (["--epochs", "-1"], "'-1' is not a whole number of 1 or more"),
        (["--batch-size", "two"], "'two' is not a whole number of 1 or more"),
        (
            ["--learning-rate", "nan"],
            "argument --learning-rate: 'nan' is not a number above 0",
        ),
        (
            ["--learning-rate", "fast"],
            "argument --learning-rate: 'fast' is not a number above 0",
        ),
        (["--warmup", "2"], "'2' is not a number from 0 to 1"),
        (["--num-heads", "3"], "--hidden-size 128 is not divisible by --num-heads 3"),
        (["--resume"], "--resume needs --output"),
        (["--data", "my.csv"], "--data needs --model"),
        (["--pretrain-rows", "5"], "--pretrain-rows needs --pretrain EPOCHS"),
        (
            ["--pretrain", "1", "--max-length", "7"],
            "--pretrain needs --max-length 8 or more",
        ),
        (["--text-column", "x"], "need --data: they are for your own data"),
        (
            ["--lerning-rate", "1"],
            "error: unrecognized arguments: --lerning-rate 1 (did you mean --learning-rate?)\n",
        ),
        (["--epoch=1", "--ouptut=x"], "--ouptut=x (did you mean --output?)\n"),
        (["--nothing-like-it"], "unrecognized arguments: --nothing-like-it\n"),
    ],
)
def test_impossible_options_are_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as end:
        options.parse_settings(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def compiling(job: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """compiling.py over a torch 2.0 that is a mock, where there is no compiler at all."""
    torch: Any = sys.modules["torch"]
    torch.__version__ = "2.0.1+cu117"
    for name in (
        "torch._dynamo",
        "torch._dynamo.external_utils",
        "torch._inductor",
        "torch._inductor.config",
    ):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    return sys.modules["train.compiling"]


def refusal(compiling: Any, words: list[str], device: str = "cpu") -> tuple[str, str]:
    with pytest.raises(compiling.JobError) as raised:
        compiling.compile_model(
            MagicMock(), options.parse_settings(["--compile", *words]), device
        )
    return str(raised.value), raised.value.hint


def test_a_model_is_not_compiled_unasked(compiling: Any) -> None:
    model = MagicMock()
    assert compiling.compile_model(model, options.parse_settings([]), "cpu") is model


def test_torch_without_compile_is_refused(compiling: Any) -> None:
    torch: Any = sys.modules["torch"]
    del torch.compile
    torch.__version__ = "1.13.1"
    assert refusal(compiling, []) == (
        "--compile needs torch ≥ 2.0 (this is 1.13.1)",
        "leave out --compile",
    )


def test_torch_2_0_cannot_compile_with_gradient_checkpointing(compiling: Any) -> None:
    assert refusal(compiling, ["--gradient-checkpointing"]) == (
        "torch 2.0.1+cu117 cannot compile a model with gradient checkpointing",
        "leave out --compile or --gradient-checkpointing",
    )


@pytest.mark.parametrize(
    ("device", "kind", "package"), [("cpu", "C++", "g++"), ("cuda", "C", "gcc")]
)
def test_a_missing_compiler_is_named(
    compiling: Any, device: str, kind: str, package: str
) -> None:
    assert refusal(compiling, [], device) == (
        f"--compile needs a {kind} compiler, and this image has none",
        f"leave out --compile, or install {package}",
    )


def test_a_python_that_torch_cannot_compile_for_is_named(
    compiling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch: Any = sys.modules["torch"]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    torch.compile.side_effect = RuntimeError(
        "Python 3.11+ not yet supported for torch.compile"
    )
    assert refusal(compiling, []) == (
        "torch 2.0.1+cu117 cannot compile here: Python 3.11+ not yet supported for torch.compile",
        "leave out --compile",
    )


@pytest.mark.parametrize(
    ("torch_version", "longest", "step"),
    [
        ("2.0.1", 24, 6),
        ("2.0.1", 512, 128),
        ("2.0.1", 77, 77),
        ("2.0.1", 510, 170),
        ("2.7.1", 24, None),
    ],
)
def test_torch_2_0_gets_few_lengths(
    compiling: Any, torch_version: str, longest: int, step: int | None
) -> None:
    sys.modules["torch"].__version__ = torch_version  # type: ignore[attr-defined]
    words = ["--compile", "--no-pad-to-max-length", "--max-length", str(longest)]
    assert compiling.padding_multiple(options.parse_settings(words)) == step


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cuda"], "no GPU is visible"),
        (["--precision", "fp16"], "fp16 needs a GPU"),
    ],
)
def test_options_that_this_machine_lacks_are_refused(
    job: ModuleType, words: list[str], said: str
) -> None:
    with pytest.raises(job.JobError, match=said):
        job.choose_device(options.parse_settings(words))


def test_evaluation_does_not_count_as_training(
    job: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("train.record.time.monotonic", lambda: now[0])

    def score() -> tuple[float, float]:
        now[0] += 30
        return 1.0, 1.0

    record: Any = sys.modules["train.record"]
    run = record.Recorder(options.parse_settings([]), score, say=str)
    run.on_train_begin(MagicMock(), MagicMock(), MagicMock(), MagicMock(), steps=2)
    for number in (1, 2):
        now[0] += 2
        run.on_epoch_end(number, [0.1])
    assert run.seconds() == 4


@pytest.mark.parametrize("number", few([signal.SIGINT, signal.SIGTERM]))
def test_an_interrupt_is_one_line_even_while_torch_is_imported(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "torch.py").write_text(
        "import time; print('importing', flush=True); time.sleep(3600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(PAYLOAD / "train")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


TWO_SIGNALS = """
import signal, sys
from train import interrupts
now = [100.0]
interrupts.time.monotonic = lambda: now[0]
signal.signal(signal.SIGTERM, interrupts.handle_interrupt)
interrupts.STOP.can_save = True
signal.raise_signal(signal.SIGTERM)
now[0] += float(sys.argv[1])
signal.raise_signal(signal.SIGTERM)
print("it goes on")
"""


@pytest.mark.parametrize(("pause", "ends"), [(0.1, False), (1.2, True)])
def test_signal_forwarded_by_torchrun_counts_once(pause: float, ends: bool) -> None:
    words = [sys.executable, "-c", TWO_SIGNALS, str(pause)]
    done = subprocess.run(
        words, cwd=PAYLOAD, capture_output=True, text=True, check=False
    )
    saving = "interrupted: saving a checkpoint (press Ctrl-C again to quit now)\n"
    expected = (
        (130, "", saving + "interrupted\n") if ends else (0, "it goes on\n", saving)
    )
    assert (done.returncode, done.stdout, done.stderr) == expected


@pytest.mark.parametrize(
    "path",
    few(sorted(PAYLOAD.rglob("*.py")), fast=9),
    ids=lambda path: str(path.relative_to(PAYLOAD)),
)
def test_payload_is_python_3_8_and_never_imports_envbuilder(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    names = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    names += [
        node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    ]
    allowed = set(
        "torch torchvision torchaudio transformers datasets safetensors matplotlib tqdm packaging torchmetrics "
        "tokenizers peft bitsandbytes accelerate charset_normalizer evaluate huggingface_hub numpy pyarrow "
        "sklearn".split()
    )
    allowed |= {"acceptance", "finetune", "metrics", "train"}
    allowed.add("functorch")  # inside torch's wheel, before torch.func
    assert {name.split(".")[0] for name in names} <= allowed | sys.stdlib_module_names


BUILTIN_TYPES = {"dict", "frozenset", "list", "set", "tuple", "type"}
NEWER_NAMES = {
    "removeprefix",
    "removesuffix",
    "is_relative_to",
    "with_stem",
    "cache",
    "pairwise",
    "batched",
    "lcm",
}


def annotations_of(tree: ast.AST) -> list[ast.expr]:
    found: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        if isinstance(node, ast.FunctionDef):
            found.append(node.returns)
    return [annotation for annotation in found if annotation is not None]


@pytest.mark.parametrize(
    "path", sorted((PAYLOAD / "train").glob("*.py")), ids=lambda path: path.name
)
def test_python_3_8_can_evaluate_all_annotations(path: Path) -> None:
    """`list[int]` and `str | None` are text in an annotation, and an error anywhere else; so is a newer method."""
    tree = ast.parse(path.read_text())
    annotations = annotations_of(tree)
    assert not annotations or "from __future__ import annotations" in path.read_text()
    unevaluated = {
        id(node) for annotation in annotations for node in ast.walk(annotation)
    }
    for node in ast.walk(tree):
        if id(node) in unevaluated:
            continue
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id not in BUILTIN_TYPES, f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in NEWER_NAMES, f"line {node.lineno}"


def test_killed_process_is_reported_by_the_others(job: Any) -> None:
    lost = RuntimeError(
        "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:27385\nException raised"
    )
    assert job.explain(lost) == (
        "another process of this run has died: [gloo/transport/tcp/pair.cc:534] Connection closed by peer "
        "[127.0.0.1]:27385",
        "see its output. If it has none and torchrun reports SIGKILL (-9), the kernel killed it, most likely for "
        "memory: halve --batch-size (--gradient-accumulation-steps 2 keeps the size of a step), or give the container "
        "more (--memory, --shm-size). With --save-every and --resume a run continues, with torchrun --max-restarts by "
        "itself",
    )


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 14) is killed by signal: Bus error. It is possible that …",
        "DataLoader worker (pid(s) 14) exited unexpectedly",
        "unable to write to file </torch_14_1_0>: No space left on device (28)",
        "Error while creating shared memory segment /dev/shm/nccl-X (size 9637888)",
    ],
)
def test_too_little_shared_memory_is_reported_as_such(
    job: Any, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(job, "shared_memory", lambda: "64 MB")
    assert job.explain(RuntimeError(text)) == (
        f"/dev/shm has 64 MB, probably too little: {text}",
        "give the container more: `docker run --shm-size 1g IMAGE train`",
    )


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_an_output_that_cannot_be_created_names_user_and_mount(
    job: Any, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, **options: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert_output_is_refused(job, Path("/runs/x"))


def test_an_output_that_another_user_owns_is_refused_before_training(
    job: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job.make_output(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert_output_is_refused(job, tmp_path)


def assert_output_is_refused(job: Any, output: Path) -> None:
    with pytest.raises(job.JobError) as refused:
        job.make_output(output)
    assert str(refused.value) == (
        f"--output {output} cannot be written by the user of this container, UID {os.getuid()}"
    )
    assert '--user $(id -u):$(id -g) --volume "$PWD/runs:/runs"' in refused.value.hint


def test_an_output_that_is_a_file_keeps_its_own_error(job: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(FileExistsError):
        job.make_output(file)


# --- the end of one of several processes ---------------------------------------------------------------------------


def team_of(job: Any, **talk: Any) -> tuple[Any, Any]:
    """One of several processes, with what it calls of torch.distributed."""
    parallel = sys.modules["train.parallel"]
    dist: Any = MagicMock(**talk)
    parallel.dist = dist  # type: ignore[attr-defined]
    dist.get_rank.return_value = 1
    return parallel.Distributed(options.parse_settings([]), "cpu", MagicMock()), dist  # type: ignore[attr-defined]


def test_all_are_waited_for_before_one_leaves(job: Any) -> None:
    team, dist = team_of(job)
    dist.reset_mock()
    team.shutdown()
    wait, leave = dist.mock_calls
    assert (wait[0], wait[1][0], wait[1][1].total_seconds()) == (
        "monitored_barrier",
        team.control_group,
        120,
    )
    assert leave[0] == "destroy_process_group"


def test_a_group_outlives_the_team(job: Any) -> None:
    """Else a thread of gloo's and Python's lock may wait for each other for ever."""
    team, dist = team_of(job)
    assert [dist.group.WORLD, team.control_group] == sys.modules[
        "train.parallel"
    ].GROUPS  # type: ignore[attr-defined]


def test_one_that_has_gone_is_not_waited_for_for_ever(job: Any) -> None:
    team, dist = team_of(
        job,
        **{"monitored_barrier.side_effect": RuntimeError("Rank 0 has not answered")},
    )
    team.shutdown()
    dist.destroy_process_group.assert_called_once_with()


THREAD = """
import sys, threading, time
from train.interrupts import end_process
threading.Thread(target=time.sleep, args=(3600,)).start()  # a library's, which Python would wait for
print("done")
end_process(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 1])
def test_running_thread_does_not_keep_a_process_alive(code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREAD, str(code)],
        capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=PAYLOAD,
        env={**os.environ, "TORCHELASTIC_RUN_ID": "none"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "done\n", "")


def test_single_process_exits_normally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(SystemExit) as raised:
        interrupts.end_process(1)
    assert raised.value.code == 1


# --- progress ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("train.progress.time.monotonic", lambda: now[0])
    return now


def test_progress_is_a_line_every_30_seconds(clock: list[float]) -> None:
    run = progress.Progress(total=400)
    lines = []
    for step in range(1, 101):
        clock[0] += 1
        lines.append(run.report(step, 0.5))
    assert [line for line in lines if line] == [
        "step 30/400: loss 0.5000, 6 min 10 s left",
        "step 60/400: loss 0.5000, 5 min 40 s left",
        "step 90/400: loss 0.5000, 5 min 10 s left",
    ]


def test_time_left_counts_only_steps_of_this_process(clock: list[float]) -> None:
    run = progress.Progress(total=1000, done=900)
    clock[0] += 30
    run.pause(10)
    assert run.report(910, 0.25) == "step 910/1000: loss 0.2500, 3 min 0 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (90000, "25 h 0 min"),
    ],
)
def test_a_duration_reads_well(seconds: float, text: str) -> None:
    assert progress.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("terminal", "lines"), [(True, []), (False, ["step 1/2: loss 0.1000, 31 s left"])]
)
def test_progress_lines_are_for_runs_without_a_terminal(
    job: ModuleType, monkeypatch: pytest.MonkeyPatch, terminal: bool, lines: list[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("train.record.time.monotonic", lambda: now[0])
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    output: list[str] = []
    record: Any = sys.modules["train.record"]
    run = record.Recorder(
        options.parse_settings([]), lambda: (1.0, 1.0), say=output.append
    )
    run.on_train_begin(MagicMock(), MagicMock(), MagicMock(), MagicMock(), steps=2)
    now[0] += 31
    run.on_step_end([0.1], stop=False)
    assert output == lines


# --- names of Hugging Face's Trainer -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--rows 9 --held-out 7", "--max-train-samples 9 --max-eval-samples 7"),
        ("--batch 3 --accumulate 2", "--batch-size 3 --gradient-accumulation-steps 2"),
        (
            "--layers 3 --hidden 12 --heads 4",
            "--num-layers 3 --hidden-size 12 --num-heads 4",
        ),
        ("--padding longest", "--no-pad-to-max-length"),
        ("--model m --padding max", "--model m --pad-to-max-length"),
        ("--epochs 5 --output out", "--num-train-epochs 5 --output-dir out"),
        (
            "--model m --data d --text-column a",
            "--model-name-or-path m --dataset-name d --text-column-name a",
        ),
        (
            "--warmup 0.2 --max-length 30 --compile",
            "--warmup-ratio 0.2 --max-seq-length 30 --torch-compile",
        ),
    ],
)
def test_options_accept_old_names_and_names_of_the_trainer(old: str, new: str) -> None:
    settings = options.parse_settings(old.split())
    assert settings == options.parse_settings(new.split())
    assert settings != options.parse_settings([])


# --- what the mutants replace --------------------------------------------------------------------------------------


def test_texts_of_mutants_are_in_the_payload() -> None:
    """Building the mutants would find it too, an hour later."""
    in_image = "/opt/envbuilder/payload/"
    payload_edits = [(file, old) for file, old in EDITS if file.startswith(in_image)]
    assert payload_edits
    for file, old in payload_edits:
        path = PAYLOAD / file.removeprefix(in_image)
        assert old in path.read_text(), f"{old!r} is not in {path}"
