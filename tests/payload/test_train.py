"""The fine-tune's command line, without torch; what it learns is measured in tests/container."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
from waiting import PATIENCE

import options

from .conftest import PAYLOAD

HEAVY = (
    "torch torch.distributed torch.nn torch.nn.functional torch.utils torch.utils.checkpoint torch.utils.data datasets "
    "tqdm transformers safetensors safetensors.torch torchmetrics torchmetrics.functional "
    "torchmetrics.functional.classification"
).split()


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Any:
    """train.py over a torch that is a mock and sees no GPU."""
    for name in HEAVY:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    sys.modules["torch"].cuda.is_available.return_value = False  # type: ignore[attr-defined]
    own = ("train", "checkpoints", "outputs", "data", "compiling", "parallel", "stages", "pretrain", "record")
    for name in own:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import train

    yield train
    for name in own:
        sys.modules.pop(name, None)


def test_the_measured_defaults() -> None:
    settings = vars(options.parse_settings([]))
    measured = {
        "rows": 2000, "held_out": 500, "epochs": 4, "batch": 32, "learning_rate": 1e-3, "warmup": 0.1, "max_length": 24,
        "layers": 2, "hidden": 128, "heads": 2, "seed": 0, "device": "auto", "padding": "max", "precision": "fp32",
    }  # fmt: skip
    assert settings.items() >= measured.items()


def test_the_guide_s_numbers_for_the_guide_s_job() -> None:
    settings = vars(options.parse_settings(["--model", "bert-base-uncased", "--data", "imdb"]))
    guide = {"epochs": 3, "batch": 8, "learning_rate": 5e-5, "warmup": 0.0, "max_length": 512, "rows": None}
    assert settings.items() >= guide.items()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "60000"], "there are 17920 reviews in all"),
        (["--rows", "0"], "--rows: invalid count value: '0'"),
        (["--epochs", "-1"], "--epochs"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--warmup", "2"], "--warmup"),
        (["--heads", "3"], "--hidden 128 cannot be shared by --heads 3"),
        (["--resume"], "--resume needs --output"),
        (["--data", "my.csv"], "--data needs --model"),
        (["--pretrain-rows", "5"], "--pretrain-rows needs --pretrain EPOCHS"),
        (["--pretrain", "1", "--max-length", "7"], "--pretrain needs --max-length 8 or more"),
        (["--text-column", "x"], "are for data of your own"),
    ],
)
def test_what_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as end:
        options.parse_settings(words)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def compiling(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """compiling.py over a torch 2.0 that is a mock, where there is no compiler at all."""
    torch: Any = sys.modules["torch"]
    torch.__version__ = "2.0.1+cu117"
    for name in ("torch._dynamo", "torch._dynamo.external_utils", "torch._inductor", "torch._inductor.config"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    return sys.modules["compiling"]


def refusal(compiling: Any, words: list[str], device: str = "cpu") -> tuple[str, str]:
    with pytest.raises(compiling.JobError) as raised:
        compiling.compile_model(MagicMock(), options.parse_settings(["--compile", *words]), device)
    return str(raised.value), raised.value.hint


def test_a_model_is_not_compiled_unasked(compiling: Any) -> None:
    model = MagicMock()
    assert compiling.compile_model(model, options.parse_settings([]), "cpu") is model


def test_a_torch_that_cannot_compile_says_so(compiling: Any) -> None:
    torch: Any = sys.modules["torch"]
    del torch.compile
    torch.__version__ = "1.13.1"
    assert refusal(compiling, []) == (
        "torch 1.13.1 has no torch.compile",
        "it came with torch 2.0: leave out --compile",
    )


def test_torch_2_0_cannot_compile_with_gradient_checkpointing(compiling: Any) -> None:
    assert refusal(compiling, ["--gradient-checkpointing"]) == (
        "torch 2.0.1+cu117 cannot compile a model with gradient checkpointing",
        "leave out one of --compile and --gradient-checkpointing",
    )


@pytest.mark.parametrize(("device", "kind", "package"), [("cpu", "C++", "g++"), ("cuda", "C", "gcc")])
def test_a_missing_compiler_is_named(compiling: Any, device: str, kind: str, package: str) -> None:
    assert refusal(compiling, [], device) == (
        f"--compile needs a {kind} compiler, and there is none in here",
        f"leave out --compile, or install {package}",
    )


def test_a_python_that_torch_cannot_compile_for_is_named(compiling: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = sys.modules["torch"]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    torch.compile.side_effect = RuntimeError("Python 3.11+ not yet supported for torch.compile")
    assert refusal(compiling, []) == (
        "torch 2.0.1+cu117 cannot compile here: Python 3.11+ not yet supported for torch.compile",
        "leave out --compile",
    )


@pytest.mark.parametrize(
    ("torch_version", "longest", "step"),
    [("2.0.1", 24, 6), ("2.0.1", 512, 128), ("2.0.1", 77, 77), ("2.0.1", 510, 170), ("2.7.1", 24, None)],
)
def test_torch_2_0_is_given_few_lengths(compiling: Any, torch_version: str, longest: int, step: int | None) -> None:
    sys.modules["torch"].__version__ = torch_version  # type: ignore[attr-defined]
    words = ["--compile", "--padding", "longest", "--max-length", str(longest)]
    assert compiling.padding_step(options.parse_settings(words)) == step


@pytest.mark.parametrize(
    ("words", "said"), [(["--device", "cuda"], "no GPU is visible"), (["--precision", "fp16"], "fp16 needs a GPU")]
)
def test_what_this_machine_cannot_do_is_refused(train: ModuleType, words: list[str], said: str) -> None:
    with pytest.raises(train.JobError, match=said):
        train.pick_device(options.parse_settings(words))


def test_evaluation_does_not_count_as_training(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("record.time.monotonic", lambda: now[0])

    def score() -> tuple[float, float]:
        now[0] += 30
        return 1.0, 1.0

    run = train.Recorded(options.parse_settings([]), score, say=str)
    run.begin(MagicMock(**{"tell.return_value": False}), MagicMock(), MagicMock(), MagicMock(), steps=2)
    for number in (1, 2):
        now[0] += 2
        run.end_epoch(number, [0.1])
    assert run.seconds() == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_even_while_torch_is_imported(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "torch.py").write_text("import time; print('importing', flush=True); time.sleep(3600)\n")
    process = subprocess.Popen(
        [sys.executable, str(PAYLOAD / "train.py")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


TWO_SIGNALS = """
import signal, sys
import interrupts
now = [100.0]
interrupts.time.monotonic = lambda: now[0]
signal.signal(signal.SIGTERM, interrupts.interrupted)
interrupts.STOP["may_wait"] = True
signal.raise_signal(signal.SIGTERM)
now[0] += float(sys.argv[1])
signal.raise_signal(signal.SIGTERM)
print("it goes on")
"""


@pytest.mark.parametrize(("pause", "ends"), [(0.1, False), (1.2, True)])
def test_a_signal_that_torchrun_passes_on_is_not_a_second_one(pause: float, ends: bool) -> None:
    words = [sys.executable, "-c", TWO_SIGNALS, str(pause)]
    done = subprocess.run(words, cwd=PAYLOAD, capture_output=True, text=True, check=False)
    saving = "interrupted: saving; once more ends it at once\n"
    expected = (130, "", saving + "interrupted\n") if ends else (0, "it goes on\n", saving)
    assert (done.returncode, done.stdout, done.stderr) == expected


@pytest.mark.parametrize("path", sorted(PAYLOAD.rglob("*.py")), ids=lambda path: str(path.relative_to(PAYLOAD)))
def test_the_payload_is_python_3_8_and_knows_nothing_of_envbuilder(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    allowed = set(
        "torch torchvision torchaudio transformers datasets safetensors matplotlib tqdm packaging torchmetrics".split()
    )
    allowed |= {"acceptance"} | {file.stem for file in PAYLOAD.glob("*.py")}
    allowed.add("functorch")  # inside torch's wheel, before torch.func
    assert {name.split(".")[0] for name in names} <= allowed | sys.stdlib_module_names


def test_a_process_that_was_killed_is_explained_by_the_others(train: Any) -> None:
    lost = RuntimeError(
        "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:27385\nException raised"
    )
    assert train.explain(lost) == (
        "another process of this run has gone: [gloo/transport/tcp/pair.cc:534] Connection closed by peer "
        "[127.0.0.1]:27385",
        "see what it said. If that is nothing, and torchrun tells of SIGKILL (-9), the kernel killed it, most likely "
        "for memory: halve --batch (--accumulate 2 keeps the size of a step), or give the container more (--memory, "
        "--shm-size). With --save-every and --resume a run goes on, and torchrun --max-restarts does so itself",
    )


# --- the end of one of several processes ---------------------------------------------------------------------------


def team_of(train: Any, **talk: Any) -> tuple[Any, Any]:
    """One of several processes, with what it calls of torch.distributed."""
    parallel = sys.modules["parallel"]
    dist: Any = MagicMock(**talk)
    parallel.dist = dist  # type: ignore[attr-defined]
    dist.get_rank.return_value = 1
    return parallel.Processes(options.parse_settings([]), "cpu", MagicMock()), dist  # type: ignore[attr-defined]


def test_all_are_waited_for_before_one_leaves(train: Any) -> None:
    team, dist = team_of(train)
    dist.reset_mock()
    team.leave()
    wait, leave = dist.mock_calls
    assert (wait[0], wait[1][0], wait[1][1].total_seconds()) == ("monitored_barrier", team.talk, 120)
    assert leave[0] == "destroy_process_group"


def test_a_group_outlives_the_team(train: Any) -> None:
    """Else a thread of gloo's and Python's lock may wait for each other for ever."""
    team, dist = team_of(train)
    assert [dist.group.WORLD, team.talk] == sys.modules["parallel"].GROUPS  # type: ignore[attr-defined]


def test_one_that_has_gone_is_not_waited_for_for_ever(train: Any) -> None:
    team, dist = team_of(train, **{"monitored_barrier.side_effect": RuntimeError("Rank 0 has not answered")})
    team.leave()
    dist.destroy_process_group.assert_called_once_with()


THREAD = """
import sys, threading, time
import train_end
threading.Thread(target=time.sleep, args=(3600,)).start()  # a library's, which Python would wait for
print("done")
train_end.end(int(sys.argv[1]))
"""


@pytest.mark.parametrize("code", [0, 1])
def test_a_thread_does_not_hold_one_of_several_processes(tmp_path: Path, code: int) -> None:
    """`end` alone, as importing train.py would import torch."""
    tree = ast.parse((PAYLOAD / "train.py").read_text())
    (end,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "end")
    (tmp_path / "train_end.py").write_text("import atexit, os, sys\n" + ast.unparse(end))
    done = subprocess.run(
        [sys.executable, "-c", THREAD, str(code)],
        capture_output=True, text=True, check=False, timeout=PATIENCE, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "TORCHELASTIC_RUN_ID": "none"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (code, "done\n", "")


def test_a_process_of_its_own_ends_as_any_other(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with pytest.raises(SystemExit) as raised:
        train.end(1)
    assert raised.value.code == 1
