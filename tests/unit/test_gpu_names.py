"""GPUs as NVIDIA's driver, NVIDIA's page and people call them, and GPUs that are none of NVIDIA's."""

from pathlib import Path

import pytest

from envbuilder.catalog.gpu_names import (
    find_gpu,
    find_gpus,
    needs_arm64,
    other_maker,
    similar_gpus,
)
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

PRINTED = Path(__file__).parents[1] / "samples" / "gpu_names.txt"
"""Compute capability and name of every GPU and vGPU that driver 595.45.04 can print, Turing and newer."""


def capabilities(name: str, facts: Catalog) -> list[str]:
    return [str(row.capability) for row in find_gpus(name, facts)]


def test_every_name_that_a_driver_prints_is_known(facts: Catalog) -> None:
    wrong = []
    lines = PRINTED.read_text().splitlines()
    for line in lines:
        capability, _, name = line.partition(" ")
        if capabilities(name, facts) != [capability]:
            wrong.append(line)
    assert not wrong
    assert len(lines) > 1000


def test_names_of_the_catalog_are_known(facts: Catalog) -> None:
    for row in facts.gpu_names:
        for name in row.names:
            assert str(row.capability) in capabilities(name, facts), name


INSTANCES = (
    ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "8.0"),
    ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "9.0"),
    ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition MIG 1g.24gb", "12.0"),
    ("GRID V100DX-32Q", "7.0"),
    ("GRID RTX6000-24Q", "7.5"),
    ("NVIDIA RTX6000-Ada-48Q", "8.9"),
    ("GRID P100C-12Q", "6.0"),
    ("GRID M60-2B4", "5.2"),
    ("NVIDIA A100-1-5CME", "8.0"),
)
FORMS = (
    ("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9"),
    ("NVIDIA GeForce RTX 2080 Super with Max-Q Design", "7.5"),
    ("NVIDIA RTX A1000 6GB Laptop GPU", "8.6"),
    ("RTX 3060 12 GB", "8.6"),
    ("HGX H100", "9.0"),
    ("GB200 NVL72", "10.0"),
    ("RTX 5090D", "12.0"),
    ("GTX TITAN X", "5.2"),
    ("TITAN X (Pascal)", "6.1"),
    ("Orin (nvgpu)", "8.7"),
    ("NVIDIA Jetson AGX Thor Developer Kit", "11.0"),
    ("NVIDIA Thor", "11.0"),
    ("GB202", "12.0"),
    ("Tesla V100-SXM2-32GB-LS", "7.0"),
)
CHINESE = (("H20", "9.0"), ("L20", "8.9"), ("H800", "9.0"), ("A800", "8.0"))


@pytest.mark.parametrize(("name", "capability"), [*INSTANCES, *FORMS, *CHINESE])
def test_a_name_as_it_is_printed_or_said(
    name: str, capability: str, facts: Catalog
) -> None:
    assert capabilities(name, facts) == [capability]


@pytest.mark.parametrize(
    ("name", "meanings"),
    [
        ("TITAN X", ["6.1", "5.2"]),
        ("GT 730", ["3.5", "3.0"]),
        ("RTX 5000", ["8.9", "7.5"]),
    ],
)
def test_a_name_that_two_chips_have(
    name: str, meanings: list[str], facts: Catalog
) -> None:
    assert capabilities(name, facts) == meanings


@pytest.mark.parametrize("name", ["Quadro 4000", "GTX 480", "H300", "banana", "B400"])
def test_no_hint_crosses_architectures(name: str, facts: Catalog) -> None:
    assert not find_gpus(name, facts)
    assert not similar_gpus(name, facts)


@pytest.mark.parametrize(
    "name",
    ["GB10", "DGX Spark", "NVIDIA GH200 480GB", "Grace Hopper", "GB300", "12.1"],
)
def test_a_grace_decides_the_platform(name: str, facts: Catalog) -> None:
    row = find_gpu(name, facts)
    assert row is not None
    assert needs_arm64(name, row, facts)
    with pytest.raises(NoStackError) as refusal:
        resolve(parse_request({"gpu": name}), facts)
    assert "comes with an arm64 processor: use `--platform linux/arm64`" in str(
        refusal.value.plain_reasons
    )
    stack = resolve(parse_request({"gpu": name, "platform": "arm64"}), facts)
    assert stack.notes[0].endswith("arm64 processor: this is for linux/arm64")


@pytest.mark.parametrize("name", ["H200", "B300", "9.0", "10.3", "RTX 5090"])
def test_other_gpus_are_in_either_kind_of_machine(name: str, facts: Catalog) -> None:
    row = find_gpu(name, facts)
    assert row is not None
    assert not needs_arm64(name, row, facts)


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("MI300X", "AMD"),
        ("AMD Instinct MI250", "AMD"),
        ("Radeon RX 7900 XTX", "AMD"),
        ("gfx1100", "AMD"),
        ("Arc A770", "Intel"),
        ("Intel Data Center GPU Max 1550", "Intel"),
        ("Gaudi 3", "Intel"),
        ("Apple M2", "Apple"),
        ("Ascend 910B", "Huawei"),
        ("NVIDIA M3", None),
        ("RTX 9999", None),
    ],
)
def test_a_gpu_of_another_maker_is_named(
    name: str, maker: str | None, facts: Catalog
) -> None:
    assert other_maker(name) == maker
    if maker is None:
        return
    with pytest.raises(NoStackError) as refusal:
        resolve(parse_request({"gpu": name, "cuda": "12.8"}), facts)
    assert f"is made by {maker}: images are built for NVIDIA GPUs" in (
        refusal.value.message
    )
    assert refusal.value.suggestions == (
        "envbuilder resolve --flavour cpu --cuda any --gpu any",
    )


@pytest.mark.parametrize(
    ("cuda", "instead"),
    [
        ("12.2", "--cuda 12.1"),
        ("12.3", "--cuda 12.1"),
        ("12.5.1", "--cuda 12.4"),
        ("13.1", "--cuda 13.0"),
        ("11.4", "--cuda 11.7"),  # there is no older one
        ("10.2", "--cuda 11.7"),
    ],
)
def test_a_cuda_read_off_nvidia_smi(cuda: str, instead: str, facts: Catalog) -> None:
    with pytest.raises(NoStackError) as refusal:
        resolve(parse_request({"cuda": cuda}), facts)
    assert refusal.value.suggestions == (f"envbuilder resolve {instead}",)
    assert "what nvidia-smi shows is the newest CUDA that the driver supports" in (
        refusal.value.message
    )


@pytest.mark.parametrize(
    ("gpu", "torch", "missing"),
    [
        ("GTX 1080 Ti", "2.7", ["torch.compile", "bf16", "FlashAttention-2", "FP8"]),
        ("T4", "2.15", ["bf16", "FlashAttention-2", "FP8"]),
        ("RTX 3090", "2.15", ["FP8"]),
        ("RTX 3090", "2.0", ["FlashAttention-2", "FP8"]),
        ("H100", "2.15", []),
        ("B300", "2.9", ["torch.compile"]),
        ("B300", "2.15", []),
    ],
)
def test_features_are_those_of_the_gpu(
    gpu: str, torch: str, missing: list[str], facts: Catalog
) -> None:
    stack = resolve(parse_request({"gpu": gpu, "torch": torch}), facts)
    found = [feature.name for feature in stack.features_on_gpu if not feature.available]
    assert found == missing
    without = resolve(parse_request({"torch": torch}), facts)
    assert without.gpu_features == ()


def test_a_clash_with_a_platform_that_the_gpu_decided(facts: Catalog) -> None:
    request = parse_request({"gpu": "GB200", "cuda": "11.7", "platform": "arm64"})
    with pytest.raises(NoStackError) as refusal:
        resolve(request, facts)
    assert refusal.value.plain_reasons[-1] == "GB200 comes with an arm64 processor"
