"""A GPU, its driver and its wheels judged together."""

import shlex
from dataclasses import replace

import pytest
from packaging.version import Version

from envbuilder.catalog.gpu_names import find_gpu, find_gpus
from envbuilder.catalog.gpus import driver_branches, driver_range_starts
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.grammar import PLATFORMS
from envbuilder.resolve import objections, resolve
from envbuilder.resolve.command_line import parse_request

CMAKE = "Kitware/CMake:Modules/Internal/CMakeCUDAArchitecturesAll.cmake"
CUDA_13 = "NVIDIA CUDA 13 release notes"
TOOLKITS = (
    "https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/ Table 2/3 (13.2 Update 2 text stored at source excerpt); "
    "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
)


def refused(facts: Catalog, **options: str) -> NoStackError:
    with pytest.raises(NoStackError) as refusal:
        resolve(parse_request(options), facts)
    return refusal.value


def test_a_driver_that_is_older_than_the_gpu(facts: Catalog) -> None:
    error = refused(facts, gpu="RTX 5090", driver="535.104.05")
    assert error.conflict == (("gpu", "RTX 5090"), ("driver", "535.104.05"))
    assert error.reasons == (
        "RTX 5090 (Blackwell) needs driver 570.26 or newer, which came with CUDA 12.8, the first to support it; "
        "driver 535.104.05 is older "
        f"(https://developer.nvidia.com/cuda-gpus; CUDA range: {CMAKE}; {TOOLKITS})",
    )
    assert error.suggestions == (
        "envbuilder resolve --gpu 'RTX 5090' --driver 570.26",
        "envbuilder resolve --driver 535.104.05 --gpu any",
    )


def test_a_clash_with_the_platform_keeps_what_fits_another(
    facts: Catalog,
) -> None:
    """A Jetson T5000 needs arm64 and a newer CUDA: what helps against the one is offered despite the other."""
    error = refused(facts, gpu="Jetson T5000", cuda="11.7")
    assert [name for name, _ in error.conflict] == ["gpu", "platform"]
    assert error.plain_reasons == (
        "Jetson T5000 is a Jetson with an arm64 processor: use `--platform linux/arm64`",
    )
    assert error.suggestions == (
        "envbuilder resolve --gpu 'Jetson T5000' --platform linux/arm64 --cuda any",
        "envbuilder resolve --cuda 11.7 --gpu any",
    )


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_a_torch_for_another_platform_only_says_so(
    platform: str, facts: Catalog
) -> None:
    """Whether or not the requested platform is the one that needs no option."""
    [other] = set(PLATFORMS) - {platform}
    newest = max(facts.torch, key=lambda build: build.torch)
    pythons = newest.family[platform]
    elsewhere = replace(
        newest, torch=Version("9.9"), platforms=(other,), family={other: pythons}
    )
    catalog = replace(facts, torch=(newest, elsewhere))
    error = refused(catalog, torch="9.9", platform=platform)
    assert error.conflict == (("torch", "9.9"), ("platform", platform))
    assert error.plain_reasons == (
        f"torch 9.9 has CUDA wheels only for {other}",
        f"{platform} works with torch {newest.torch}",
    )
    kept = f"envbuilder resolve --torch 9.9 --platform {other}"
    assert kept in error.suggestions


def test_a_driver_that_has_dropped_the_gpu(facts: Catalog) -> None:
    error = refused(facts, gpu="V100", driver="590.48.01")
    assert error.conflict == (("gpu", "V100"), ("driver", "590.48.01"))
    [reason] = error.reasons
    assert reason.startswith(
        "V100 (Volta) needs driver branch 580 or older: R580 is the last driver branch for Maxwell/Pascal/Volta ("
    )
    assert reason.endswith(f"; {CUDA_13})")
    assert error.suggestions[0] == "envbuilder resolve --gpu V100 --driver 580.65.06"


@pytest.mark.parametrize(
    ("gpu", "oldest", "newest"),
    [
        ("Tesla K80", None, 470),
        ("7.0", None, 580),
        ("T4", None, None),
        ("A100", 450, None),
        ("RTX 3090", 455, None),
        ("H100", 520, None),
        ("RTX 5090", 570, None),
        ("B300", 575, None),
    ],
)
def test_the_branches_that_know_a_gpu(
    gpu: str, oldest: int | None, newest: int | None, facts: Catalog
) -> None:
    row = find_gpu(gpu, facts)
    assert row
    known = driver_branches(facts)[row.capability]
    for branch in driver_range_starts(facts):
        assert known.include(branch) == (
            (oldest or 0) <= branch <= (newest or 9999)
            and (gpu != "T4" or branch >= 410)
        )
    assert {start for start in (oldest, newest and newest + 1) if start} <= set(
        driver_range_starts(facts)
    )


def test_a_branch_is_enough_of_a_driver(facts: Catalog) -> None:
    assert (
        str(resolve(parse_request({"gpu": "RTX 5090", "driver": "570"}), facts).cuda)
        == "12.8.90"
    )


def test_stack_for_a_gpu_names_its_oldest_driver(facts: Catalog) -> None:
    notes = resolve(parse_request({"gpu": "RTX 5090", "cuda": "12.8"}), facts).notes
    assert notes == (f"the GPU needs a driver of branch 570 or newer ({TOOLKITS})",)
    notes = resolve(parse_request({"gpu": "V100", "cuda": "12.8"}), facts).notes
    assert notes == (
        f"R580 is the last driver branch for Maxwell/Pascal/Volta ({CUDA_13})",
    )


def test_the_evidence_is_that_of_the_drivers_too(facts: Catalog) -> None:
    asked = parse_request({"cuda": "11.7", "gpu": "8.0", "driver": "535"})
    strong = replace(
        facts, toolkits=tuple(replace(row, status="verified") for row in facts.toolkits)
    )
    assert resolve(asked, facts).evidence == "documented"
    assert resolve(asked, strong).evidence == "verified"


def test_locked_stack_is_checked_against_gpu_and_driver(facts: Catalog) -> None:
    stack = resolve(parse_request({"cuda": "12.8", "gpu": "RTX 5090"}), facts)
    [objection] = objections(
        parse_request({"gpu": "RTX 5090", "driver": "550"}), stack, facts
    )
    assert objection.endswith("; driver 550 is older")


def test_without_driver_facts_no_driver_is_refused(facts: Catalog) -> None:
    silent = replace(facts, toolkits=(), compatibility=())
    assert driver_range_starts(silent) == (0,)
    assert resolve(
        parse_request({"gpu": "RTX 5090", "driver": "535.104.05"}), silent
    ).cuda == Version("12.8.90")


@pytest.mark.parametrize("gpu", ["8.7", "Jetson AGX Orin", "7.2", "Jetson TX2"])
@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_a_jetson_runs_no_wheel_of_servers(
    gpu: str, platform: str, facts: Catalog
) -> None:
    error = refused(facts, gpu=gpu, platform=platform)
    assert error.conflict == (("gpu", gpu),)
    [reason] = error.reasons
    name = gpu if gpu.startswith("Jetson") else f"compute capability {gpu}"
    assert reason.startswith(f"{name}, a Jetson of architecture ")
    assert (
        ", runs no wheel for servers; use NVIDIA's own wheels and images for Jetson (https://"
        in reason
    )
    assert error.message == error.plain_reasons[0]


def test_thor_runs_those_of_arm64_servers(facts: Catalog) -> None:
    error = refused(facts, gpu="11.0")
    assert error.conflict == (("gpu", "11.0"), ("platform", "linux/amd64"))
    assert error.problems[0].endswith(
        " with an arm64 processor: use `--platform linux/arm64`"
    )
    assert (
        error.suggestions[0] == "envbuilder resolve --gpu 11.0 --platform linux/arm64"
    )
    error = refused(facts, gpu="11.0", platform="arm64", torch="2.0")
    assert error.conflict == (("torch", "2.0"), ("platform", "linux/arm64"))
    stack = resolve(parse_request({"gpu": "11.0", "platform": "arm64"}), facts)
    assert "sm_110" in stack.arch_list
    assert stack.cuda
    assert stack.cuda.major >= 13


@pytest.mark.parametrize(
    ("said", "capability"),
    [
        *(
            (said, "12.0")
            for said in (
                "RTX 5090",
                "rtx5090",
                "5090",
                "NVIDIA GeForce RTX 5090",
                "RTX PRO 6000",
            )
        ),
        *(
            (said, "8.9")
            for said in (
                "4090",
                "RTX4090",
                "NVIDIA RTX 6000 Ada Generation",
                "NVIDIA L40S",
            )
        ),
        *(
            (said, "9.0")
            for said in (
                "H100 PCIe",
                "NVIDIA H100 80GB HBM3",
                "NVIDIA H200 NVL",
                "NVIDIA GH200 480GB",
            )
        ),
        *(
            (said, "8.0")
            for said in (
                "NVIDIA A100-SXM4-80GB",
                "A100-PCIE-40GB",
                "NVIDIA A100 80GB PCIe",
                "A100 40GB",
            )
        ),
        *(
            (said, "8.6")
            for said in (
                "3090ti",
                "RTX 3090Ti",
                "NVIDIA GeForce RTX 3090 Ti",
                "NVIDIA RTX A6000",
            )
        ),
        *(
            (said, "7.5")
            for said in ("NVIDIA TITAN RTX", "Tesla T4", "T4", "Quadro RTX 6000")
        ),
        *((said, "7.0") for said in ("Tesla V100-SXM2-16GB", "V100", "TITAN V")),
    ],
)
def test_gpu_names_of_nvidia_smi_and_people_are_accepted(
    said: str, capability: str, facts: Catalog
) -> None:
    assert [str(row.capability) for row in find_gpus(said, facts)] == [capability]


def test_a_name_that_two_generations_have_is_not_guessed(facts: Catalog) -> None:
    error = refused(facts, gpu="RTX 6000")
    assert error.message == 'GPU "RTX 6000" is ambiguous: Ada (8.9) or Turing (7.5)'
    assert error.suggestions == (
        "envbuilder resolve --gpu 8.9",
        "envbuilder resolve --gpu 7.5",
    )


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ("RTX 509", "GeForce RTX 5090"),
        ("rtx5909", "GeForce RTX 5090"),
        ("H1OO", "H100"),
        ("RTX A1500", "RTX A1000"),
    ],
)
def test_a_near_miss_of_a_gpu_is_suggested(
    said: str, near: str, facts: Catalog
) -> None:
    """What no list has is unknown, and not taken for what it looks like."""
    error = refused(facts, gpu=said)
    assert f"similar: {near}" in error.reasons[0]
    assert [shlex.split(command)[-1] for command in error.suggestions] == [near]


def test_unknown_family_suggests_its_jetsons(facts: Catalog) -> None:
    assert (
        "similar: Jetson AGX Orin, Jetson Orin NX, Jetson Orin Nano"
        in refused(facts, gpu="Jetson Orin").reasons[0]
    )
