"""`envbuilder resolve`, and what every command shares: errors, hints, exit codes, JSON."""

import json
import re
import shlex
from pathlib import Path

import certifi
import hosts
import pytest
from packaging.version import Version

from envbuilder.doctor import request_for_host
from envbuilder.host import local_probe
from envbuilder.host.records import GpuDevice, GpuState, Host, MachineState

from .conftest import Run


def test_the_contract_of_resolve_json(run: Run) -> None:
    answer = run("resolve", "--cuda", "11.7", "--json")
    document = json.loads(answer.out)
    assert (answer.code, answer.err, document["schema"], document["ok"]) == (
        0,
        "",
        1,
        True,
    )
    stack = document["stack"]
    assert {
        "python", "torch", "torchvision", "torchaudio", "cuda", "cudnn", "nccl", "index", "arch_list", "driver_floor",
        "base", "os", "as_of", "packages",
    } <= stack.keys()  # fmt: skip
    assert (stack["cuda"], stack["base"]) == ("11.7.99", "python:3.10-slim-bookworm")


def test_a_refusal_in_json(run: Run) -> None:
    answer = run("resolve", "--cuda", "11.7", "--gpu", "H100", "--json")
    document = json.loads(answer.out)
    assert answer.code == 4
    assert document["ok"] is False
    assert document["conflict"] == [
        {"option": "cuda", "value": "11.7"},
        {"option": "gpu", "value": "H100"},
    ]
    assert (
        "has kernels up to sm_86; H100 needs sm_90 (PyPI: torch"
        in document["reasons"][0]
    )
    for suggestion in document["suggestions"]:
        assert run(*shlex.split(suggestion["command"])[1:]).code == 0


def test_a_suggestion_names_the_catalog_that_it_is_true_of(
    run: Run, tmp_path: Path
) -> None:
    """A GPU that only the user's own catalog knows: without `--catalog` the command that is tried would not resolve."""
    own = tmp_path / "our own"
    (own / "facts").mkdir(parents=True)
    row = {
        "capability": "8.8", "architecture": "Ours", "names": ["X1"], "families": {"data centre": ["X1"]},
        "first_cuda": "12.8", "status": "documented", "source": "our data sheet",
    }  # fmt: skip
    (own / "facts" / "gpus.json").write_text(
        json.dumps({"date": "2026-11-24", "rows": [row]})
    )
    answer = run(
        "resolve", "--gpu", "X1", "--driver", "535", "--catalog", str(own), "--json"
    )
    commands = [
        suggestion["command"] for suggestion in json.loads(answer.out)["suggestions"]
    ]
    assert (
        commands[0] == f"envbuilder resolve --gpu X1 --driver 570.26 --catalog '{own}'"
    )
    for command in commands:
        assert run(*shlex.split(command)[1:]).code == 0


def test_the_answer_for_a_person(run: Run) -> None:
    answer = run("resolve", "--cuda", "11.7", "--base", "bootstrap")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "cu117-torch2.0.1-py3.9-debian11"
    assert "torch.compile  works" in lines
    assert lines[-3].startswith("note: Debian 11 is past its end of life")
    assert lines[-2] == (
        "advice: torch 2.0.1 has CVE-2025-32434: torch.load runs code that a file brings, even with weights_only=True; "
        "load safetensors only, or take torch 2.6 or newer (https://github.com/advisories/GHSA-53q9-r3pm-6pq6)"
    )
    assert lines[-1].startswith("advice: torch 2.0.1 has CVE-2026-24747: ")


@pytest.mark.parametrize(
    "torch", ["2.0.1", "2.12.1"]
)  # with torchaudio, and without one
def test_all_other_packages_are_listed(run: Run, torch: str) -> None:
    [packages] = [
        line
        for line in run("resolve", "--torch", torch).out.splitlines()
        if line.startswith("packages ")
    ]
    told = [
        re.split(r"[<=!]", name)[0] for name in packages.partition(": ")[2].split(", ")
    ]
    assert told == [
        "accelerate", "datasets", "evaluate", "matplotlib", "numpy", "peft", "safetensors", "scikit-learn",
        "tensorboard", "torchmetrics", "tqdm", "transformers",
    ]  # fmt: skip


def test_advisories_are_shown_until_they_are_fixed(run: Run) -> None:
    def told(torch: str) -> list[str]:
        return [
            row["id"]
            for row in json.loads(run("resolve", "--torch", torch, "--json").out)[
                "advisories"
            ]
        ]

    assert told("2.5.1") == ["CVE-2025-32434", "CVE-2026-24747"]
    assert told("2.6.0") == ["CVE-2026-24747"]
    assert told("2.10.0") == []


def test_unknown_version_is_not_called_part_of_torch(run: Run) -> None:
    unknown = run("resolve", "--cuda", "12.6", "--torch", "2.8.0").out.splitlines()
    assert "NCCL           not known" in unknown
    assert (
        "NCCL           2.14.3"
        in run("resolve", "--cuda", "11.7", "--torch", "2.0.1").out.splitlines()
    )


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("99.9", 4), ("11.70", 4), ("11.7\n", 2), ("11.7\nRUN x", 2), ("１１.７", 2), ("", 2), ("1" * 1_000_000, 2)
    ],
    ids=["unknown", "near miss", "newline", "instruction", "full width", "empty", "long"],
)  # fmt: skip
@pytest.mark.parametrize("command", ["resolve", "lock", "render", "build", "base"])
def test_invalid_input_is_refused_before_any_request(
    run: Run, command: str, value: str, code: int
) -> None:
    answer = run(command, f"--cuda={value}")
    assert answer.code == code
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert "hint: " in answer.err
    assert len(answer.err) < 1000


@pytest.mark.parametrize(
    "words",
    [
        ("build", "--cuda", "11.7", "--tag", "No Tag"),
        ("build", "--cuda", "11.7", "--tag", "a:b\nRUN x"),
        ("build", "--cuda", "11.7", "--base", "debian:12\nRUN x", "--python", "3.10"),
        ("build", "--cuda", "11.7", "--push"),
        ("build", "--cuda", "11.7", "--platform", "windows/amd64"),
        ("build", "--cuda", "11.7", "--require-gpu", "--gpu-access", "none"),
        ("build", "--cuda", "11.7", "--ca-bundle", "nowhere.pem"),
        ("build", "--lock", "nowhere.lock"),
        ("resolve", "--python", "three"),
        ("resolve", "--cuad", "11.7"),
        ("reslove",),
    ],
)
def test_bad_options_exit_2(run: Run, words: tuple[str, ...]) -> None:
    answer = run(*words)
    assert answer.code == 2
    assert answer.err.startswith("error: ")


def test_all_options_work_together(run: Run) -> None:
    answer = run(
        *(
            "resolve",
            "--cuda",
            "cu130",
            "--cudnn",
            "cudnn9",
            "--python",
            "3.11",
            "--torch",
            "2.14",
            "--gpu",
            "sm_86",
        ),
        *(
            "--torchvision",
            "0.29",
            "--transformers",
            "5",
            "--driver",
            "580",
            "--base",
            "bootstrap",
        ),
        *(
            "--os",
            "bookworm",
            "--flavour",
            "devel",
            "--platform",
            "x86_64",
            "--package",
            "rich<14",
            "--json",
        ),
    )
    assert answer.code == 0, answer.err
    stack = json.loads(answer.out)["stack"]
    assert (stack["name"], stack["flavour"]) == (
        "cu130-torch2.14.1-py3.11-debian12-devel",
        "devel",
    )
    assert {"ninja", "nvidia-cuda-nvcc==13.0.*", "rich<14"} <= set(stack["packages"])


def test_devel_takes_nvcc_from_an_image_without_wheels(run: Run) -> None:
    answer = run("resolve", "--cuda", "12.4", "--flavour", "devel", "--json")
    assert answer.code == 0
    notes = json.loads(answer.out)["stack"]["notes"]
    assert (
        "nvcc of CUDA 12.4 is taken from nvidia/cuda:12.4.1-devel-ubuntu22.04: no wheel brings it"
        in notes
    )


def test_an_nvcc_that_cannot_compile_here_is_refused(run: Run) -> None:
    request = ("--cuda", "11.8", "--os", "debian13", "--flavour", "devel")
    answer = run("resolve", *request, "--json")
    assert answer.code == 4
    document = json.loads(answer.out)
    assert {row["option"] for row in document["conflict"]} == {"cuda", "os", "flavour"}
    reasons = " ".join(document["reasons"])
    said = "nvcc of CUDA 11.8 does not compile with glibc 2.41 of debian 13"
    assert said in reasons


def test_custom_base_provides_the_compiler_that_wheels_lack(run: Run) -> None:
    own = ("--base", "registry.example/cuda:12.4-devel", "--python", "3.12")
    stack = json.loads(
        run("resolve", "--cuda", "12.4", "--flavour", "devel", *own, "--json").out
    )["stack"]
    assert (stack["torch"], stack["packages"][-1]) == ("2.6.0", "ninja")
    note = "nvcc of CUDA 12.4 must be in registry.example/cuda:12.4-devel, in /usr/local/cuda: no wheel brings it"
    assert note in stack["notes"]


def test_settings_take_every_option(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text(
        'torch = "2.0"\nos = "debian 11"\nflavour = "cpu"\ntransformers = "4.40"\n'
    )
    assert (
        json.loads(run("resolve", "--json").out)["stack"]["name"]
        == "cpu-torch2.0.1-py3.9-debian11"
    )
    assert (
        json.loads(run("resolve", "--flavour", "any", "--json").out)["stack"]["cuda"]
        == "11.7.99"
    )


NOBODY = "no options given and no NVIDIA driver found; using the default stack"
BY = "no options given; using the best stack for this host:"


def gpus(*capabilities: str) -> tuple[GpuDevice, ...]:
    return tuple(
        GpuDevice(name="GPU", capability=Version(capability))
        for capability in capabilities
    )


@pytest.mark.parametrize(
    ("seen", "told", "cuda"),
    [
        (Host(), NOBODY, "13.2.2"),
        (
            Host(machine=MachineState(processor="aarch64"), gpu=GpuState(devices=())),
            f"{NOBODY} for --platform linux/arm64",
            "13.2.2",
        ),
        (
            Host(gpu=GpuState(driver="535.104.05")),
            f"{BY} --driver 535.104.05",
            "12.8.90",
        ),
        (
            Host(gpu=GpuState(driver="470.57.02", devices=gpus("8.6"))),
            f"{BY} --driver 470.57.02 and --gpu 8.6",
            "11.7.99",
        ),
        (
            Host(gpu=GpuState(driver="580.65.06", devices=gpus("9.0", "7.0"))),
            f"{BY} --driver 580.65.06 and --gpu 7.0; its GPUs differ (7.0, 9.0): all of them run this, "
            "use `--gpu` to choose another",
            "12.8.90",
        ),
    ],
    ids=["no driver", "arm64", "driver", "old GPU", "two GPUs"],
)
def test_without_options_it_is_the_best_for_this_host(
    run: Run, monkeypatch: pytest.MonkeyPatch, seen: Host, told: str, cuda: str
) -> None:
    monkeypatch.setattr(request_for_host, "ask", lambda _: seen)
    answer = run("resolve", "--json")
    assert json.loads(answer.out)["stack"]["cuda"] == cuda
    assert answer.err == f"{told}\n"


def test_without_a_common_stack_the_oldest_gpu_decides(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        request_for_host,
        "ask",
        lambda _: Host(
            gpu=GpuState(driver="470.57.02", devices=gpus("8.6", "10.0", "3.5"))
        ),
    )
    answer = run("resolve")
    assert (answer.code, answer.out) == (4, "")
    told = "its GPUs differ (3.5, 8.6, 10.0): this is for the oldest, use `--gpu` to choose another"
    seen = f"{BY} --driver 470.57.02 and --gpu 3.5; {told}"
    assert answer.err.startswith(
        f"{seen}\nerror: no torch in the catalog has kernels for compute capability 3.5"
    )


@pytest.mark.parametrize(
    "name",
    ["workstation", "two-kinds", "arm64-server", "driver-too-old", "no-gpu", "wsl"],
)
def test_stack_matches_the_doctor(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Both ask the same way, so the doctor's command and no option at all come to the same stack."""
    monkeypatch.setattr(
        local_probe, "new_probe", lambda *_: hosts.play(hosts.read(name))
    )
    found = {
        finding["id"]: finding
        for finding in json.loads(run("doctor", "--json").out)["findings"]
    }
    words = (
        shlex.split(found["stack"]["remedy"])[1:]
        if "stack" in found
        else ["resolve", "--torch", "any"]
    )
    assert json.loads(run("resolve", "--json").out) == json.loads(
        run(*words, "--json").out
    )


def test_why_the_winner_won_and_everything_else_did_not(run: Run) -> None:
    lines = run("resolve", "--cuda", "11.7", "--explain").out.splitlines()
    assert (
        "winner: torch 2.0.1 for CUDA 11.7.99 on Python 3.10, python:3.10-slim-bookworm"
        in lines
    )
    assert any(
        line.startswith("because: ") and line.endswith("loses: an older Python")
        for line in lines
    )
    behind = lines.index(
        "behind: torch 2.0.1 for CUDA 11.7.99 on Python 3.11 (envbuilder-base:debian12, python:3.11-slim-bookworm)"
    )
    assert (
        lines[behind + 1]
        == "  no torch.compile: torch 2.0.1 raises on Python 3.11 and later"
    )
    rejected = [
        line
        for line in lines
        if line.startswith("rejected: torch 2.1.0 for CUDA 12.1.105 on Python ")
    ]
    assert len(rejected) == 1
    assert lines[lines.index(rejected[0]) + 1].startswith(
        "  torch 2.1.0 is built for CUDA 12.1.105 (PyPI: torch"
    )


def test_an_explanation_in_json(run: Run) -> None:
    won = json.loads(run("resolve", "--cuda", "11.7", "--explain", "--json").out)
    assert won["explanation"]["winner"].startswith("torch 2.0.1 for CUDA 11.7.99")
    other = won["explanation"]["alternatives"][0]
    assert other.keys() == {"build", "index", "pythons", "bases", "fits", "reasons"}
    lost = run("resolve", "--cuda", "11.7", "--gpu", "H100", "--explain", "--json")
    document = json.loads(lost.out)
    assert (lost.code, document["ok"], document["explanation"]["winner"]) == (
        4,
        False,
        None,
    )
    assert all(
        other["reasons"] and not other["fits"]
        for other in document["explanation"]["alternatives"]
    )


@pytest.mark.parametrize(
    "words",
    [("lock",), ("render",), ("build",), ("build", "--dry-run"), ("base",), ("init",)],
)
def test_an_index_of_another_cuda_is_refused_before_any_request(
    run: Run, tmp_path: Path, words: tuple[str, ...]
) -> None:
    address = "https://me:kestrel@mirror.example/whl"
    answer = run(
        *words,
        "--torch",
        "2.0",
        "--flavour",
        "cpu",
        "--torch-index",
        f"{address}/cu118",
    )
    assert (answer.code, answer.out) == (5, "")
    assert answer.err == (
        "error: https://mirror.example/whl/cu118 is for cu118; torch 2.0.1 without CUDA needs cpu\n"
        "hint: name the folder above it, for every CUDA: `--torch-index https://mirror.example/whl`\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command", ["resolve", "lock", "render", "build", "base", "init"]
)
def test_a_hint_names_the_command_that_was_typed(run: Run, command: str) -> None:
    words = () if command == "resolve" else ("--ca-bundle", certifi.where())
    answer = run(command, "--cuda", "11.77", *words)
    flags = "".join(f" {word}" for word in words)
    assert answer.code == 4
    assert f"hint: try `envbuilder {command} --cuda 11.7{flags}`" in answer.err
    answer = run(command, "--cuda", "x")
    assert answer.code == 2
    assert f"hint: see `envbuilder {command} --help`" in answer.err


def test_a_refusal_names_where_its_values_come_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envbuilder.toml").write_text('torch = "2.0.1"\npython = "3.9"\n')
    answer = run("resolve", "--cuda", "12.4")
    assert answer.code == 4
    assert "  not from the command line: torch 2.0.1 (envbuilder.toml)\n" in answer.err
    answer = run("resolve", "--cuda", "12.4", "--json")
    document = json.loads(answer.out)
    assert document.keys() == {"schema", "ok", "conflict", "reasons", "suggestions"}
    commands = [suggestion["command"] for suggestion in document["suggestions"]]
    assert "envbuilder resolve --cuda 12.4 --python 3.9 --torch 2.6.0" in commands
    for command in commands:
        assert run(*shlex.split(command)[1:]).code == 0
    monkeypatch.setenv("ENVBUILDER_GPU", "H100")
    answer = run("build", "--torch", "2.0.1", "--cuda", "11.7")
    assert "  not from the command line: GPU H100 (ENVBUILDER_GPU)\n" in answer.err
    answer = run("resolve", "--torch", "2.0.1", "--cuda", "11.7", "--gpu", "H100")
    assert answer.code == 4
    assert "not from the command line" not in answer.err


@pytest.mark.parametrize("command", ["resolve", "lock", "build", "render"])
def test_a_day_in_the_future_is_refused(run: Run, command: str) -> None:
    answer = run(command, "--as-of", "2999-01-01")
    assert answer.code == 2
    assert answer.err == (
        "error: --as-of 2999-01-01 is in the future\nhint: use a day that has passed\n"
    )


def test_a_misspelt_setting_names_the_right_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text('cdua = "11.7"\n')
    answer = run("resolve")
    assert answer.code == 2
    assert "did you mean 'cuda'?" in answer.err


def test_settings_are_defaults_and_the_command_line_wins(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "envbuilder.toml").write_text('cuda = "11.7"\nbase = "bootstrap"\n')
    assert json.loads(run("resolve", "--json").out)["stack"]["python"] == "3.9"
    assert (
        json.loads(run("resolve", "--base", "auto", "--json").out)["stack"]["python"]
        == "3.10"
    )


def test_no_engine_is_exit_6(run: Run) -> None:
    answer = run("accept", "envbuilder:nothing")
    assert answer.code == 6
    assert "no Docker engine answers" in answer.err
    assert "`envbuilder doctor`" in answer.err


def test_dry_run_contacts_nothing(run: Run) -> None:
    answer = run("build", "--cuda", "11.7", "--dry-run")
    assert answer.code == 0
    assert "docker buildx build" in answer.out
    assert "envbuilder:cu117-torch2.0.1-py3.10-debian12" in answer.out


def test_bug_is_reported_without_a_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envbuilder.resolve.resolve", lambda *_, **__: 1 / 0)
    answer = run("resolve", "--cuda", "11.7")
    assert answer.code == 1
    assert "a bug in envbuilder: ZeroDivisionError" in answer.err
    assert "Traceback" not in answer.err


def test_ctrl_c_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("envbuilder.resolve.resolve", interrupt)
    assert run("resolve", "--cuda", "11.7").code == 130


@pytest.mark.parametrize("package", ["Torchvision<0.10", "torch>=3"])
def test_torch_is_no_extra_package(run: Run, package: str) -> None:
    answer = run("resolve", "--cuda", "11.7", "--package", package)
    assert answer.code == 4
    name = "torchvision" if "vision" in package else "torch"
    assert f"{package} cannot be installed with torch 2.0.1" in answer.err
    assert f"hint: choose the version of {name} with `--{name}`" in answer.err


def test_a_pinned_torch_package_is_the_option(run: Run) -> None:
    words = ("--package", "torch==2.0.1+cu117", "--package", "nvidia-cudnn-cu11==8.5")
    answer = run("resolve", *words, "--package", "transformers[sentencepiece]==4.30")
    assert answer.out.startswith("cu117-torch2.0.1-")
    assert ", transformers==4.30.0" in answer.out
    assert ", transformers[sentencepiece]" in answer.out
    assert answer.err == ""  # options are given
    answer = run("resolve", "--torch", "2.1", *words)
    assert answer.code == 2
    assert "torch==2.0.1+cu117 and --torch 2.1 are different versions" in answer.err
    answer = run("resolve", "--package", "torch==2.0.1+rocm5.4.2")
    assert "rocm5.4.2 is no build for CUDA or the CPU" in answer.err
    words = ("--cuda", "11.7", "--package", "nvidia-cudnn-cu11==8.6.0")
    assert (
        "`envbuilder resolve --cuda 11.7 --cudnn 8.5.0`" in run("resolve", *words).err
    )


def test_a_package_that_contradicts_the_stack_is_refused(run: Run) -> None:
    answer = run("resolve", "--torch", "2.1.0", "--package", "numpy==2.0")
    assert answer.code == 4
    assert answer.err.startswith(
        "error: numpy==2.0 cannot be installed with torch 2.1.0 for CUDA 12.1\n"
        "  torch 2.1.0 needs numpy<2\n"
    )
    command = answer.err.split("`")[1]
    assert run(*shlex.split(command)[1:]).code == 0
    # Without such a pin, the stack is one that has what the package needs.
    assert "numpy==2.0" in run("resolve", "--package", "numpy==2.0").out
    assert "torchaudio     2" in run("resolve", "--package", "torchaudio").out


@pytest.mark.parametrize("package", ["torch", "torch==2.0.1", "torchmetrics<2"])
def test_packages_that_agree_with_torch_are_accepted(run: Run, package: str) -> None:
    assert run("resolve", "--cuda", "11.7", "--package", package).code == 0


def test_a_grace_decides_the_platform(run: Run) -> None:
    answer = run("resolve", "--gpu", "GB10", "--json")
    stack = json.loads(answer.out)["stack"]
    assert (answer.code, stack["platform"]) == (0, "linux/arm64")
    assert (
        "GB10 comes with an arm64 processor: this is for linux/arm64"
        in (stack["notes"])
    )
    refused = run("resolve", "--gpu", "GB10", "--platform", "amd64")
    assert refused.code == 4
    assert "use `--platform linux/arm64`" in refused.err


def test_features_in_json_are_those_of_the_gpu(run: Run) -> None:
    answer = run("resolve", "--gpu", "GTX 1080 Ti", "--json")
    features = json.loads(answer.out)["stack"]["features"]
    available = {feature["name"]: feature["available"] for feature in features}
    assert available["torch.compile"] is False
