"""`catalog verify` finds every kind of fault: each is planted once in a copy of the catalog, and must be named."""

import json
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from packaging.version import Version

from envbuilder import catalog, cli
from envbuilder.catalog import checks, online, verify
from envbuilder.catalog.rows import Catalog
from envbuilder.catalog.verify import CatalogFacts, Check, Problem
from envbuilder.resolve.candidates import PREFERENCES

Row = dict[str, Any]
SOUND = verify.gather(list(PREFERENCES))


def names(found: Iterable[Check]) -> dict[str, Check]:
    return {check.__name__: check for check in found}


BY_NAME = names(checks.ALL)


def torch(version: str, index: str = "pypi") -> Row:
    return {"torch": version, "index": index}


def vllm(first: str) -> Row:
    return {"name": "vllm", "first": first}


def put(**values: Any) -> Callable[[Row, list[Row]], object]:
    return lambda row, rows: row.update(values)


def put_in(field: str, **values: Any) -> Callable[[Row, list[Row]], object]:
    return lambda row, rows: row[field].update(
        {name.replace("__", "/"): value for name, value in values.items()}
    )


def again(row: Row, rows: list[Row]) -> None:
    rows.append(dict(row))


def remove(row: Row, rows: list[Row]) -> None:
    rows.remove(row)


# check, file, key of the row, what is done to it, field that is named
FAULTS: list[tuple[str, str, Row, Callable[[Row, list[Row]], object], str]] = [
    ("fields_are_known", "torch.json", torch("2.0.1"), put(cudn="8"), "cudn"),
    ("rows_are_unique", "gpus.json", {"capability": "9.0"}, again, "capability"),
    ("sources_are_named", "advisories.json", {"id": "CVE-2025-32434"}, put(source=" "), "source"),
    ("nothing_is_newer_than_its_check", "torch.json", torch("2.15.0"), put(released="2027-01-01"), "released"),
    ("rulings_hold", "torch.json", torch("2.14.1"), put(cuda="13.2.2"), "cuda"),
    ("every_release_has_its_row", "torch.json", torch("2.3.0"), remove, "torch"),
    ("releases_are_in_order", "torch.json", torch("2.0.1"), put(released="2022-12-31"), "released"),
    ("wheels_say_the_same", "torch.json", torch("2.0.1"), put(cuda="11.7.60"), "cuda"),
    ("wheels_say_the_same", "torch.json", torch("2.0.1"), put(cudnn="8.6.0.1"), "cudnn"),
    ("wheels_say_the_same", "torch.json", torch("2.0.1"), put(nccl="2.14.4"), "nccl"),
    ("wheels_say_the_same", "torch.json", torch("1.13.1"), put(nccl="2.14.3"), "nccl"),
    ("wheels_say_the_same", "torch.json", torch("2.1.2"), put(triton="2.0.0"), "triton"),
    ("wheels_say_the_same", "torch.json", torch("2.0.1"), put(pythons=["3.8", "3.9"]), "pythons"),
    ("wheels_say_the_same", "torch.json", torch("2.0.1"), put(requires_python=">=3.9"), "requires_python"),
    ("wheels_say_the_same", "torch.json", torch("2.0.1"), put(glibc_tag="2.17"), "glibc_tag"),
    ("wheels_say_the_same", "wheels.json", {"package": "torch", "version": "2.0.1"}, remove, "torch"),
    ("companions_fit", "torch.json", torch("2.0.1"), put(torchvision="0.15.1"), "torchvision"),
    ("companions_fit", "torch.json", torch("2.0.1"), put(torchaudio="2.0.9"), "torchaudio"),
    ("companions_fit", "torch.json", torch("2.0.1"), put(triton=None), "triton"),
    ("families_are_derived", "torch.json", torch("1.13.1"), put_in("family", linux__amd64=["3.11"]), "family"),
    ("families_are_derived", "torch.json", torch("2.0.1", "pytorch-cu118"), put(family={"linux/amd64": ["3.15"]}), "family"),
    ("drivers_have_the_floor_of_their_cuda", "torch.json", torch("2.1.2"), put(driver_floor="450.80.02"), "driver_floor"),
    ("cuda_is_a_toolkit", "torch.json", torch("2.7.1", "pytorch-cu128"), put(cuda="12.7"), "cuda"),
    ("architectures_are_known", "torch.json", torch("2.0.1"), put(arch_list=["sm_37", "sm_38"]), "arch_list"),
    ("architectures_are_known", "torch.json", torch("2.0.1"), put(arch_list=["sm_86", "sm_90"]), "arch_list"),
    ("architectures_are_known", "torch.json", torch("2.15.0"), put(arch_list=["sm_70", "sm_75"]), "arch_list"),
    ("architectures_are_known", "torch.json", torch("2.0.1"), put(arch_list=["sm_80", "sm_75"]), "arch_list"),
    ("architectures_are_known", "torch.json", torch("2.0.1"), put(arch_list=[]), "arch_list"),
    ("platforms_are_known", "torch.json", torch("2.0.1"), put(platforms=["linux/amd64", "linux/arm64"]), "arch_list_arm64"),
    ("glibc_is_at_least_what_the_tag_says", "torch.json", torch("2.8.0"), put(glibc="2.17"), "glibc"),
    ("builds_elsewhere_have_a_sister", "torch.json", torch("2.5.1", "pytorch-cu121"), put(cuda="12.6"), "cuda"),
    ("builds_elsewhere_have_a_sister", "torch.json", torch("2.5.1", "pytorch-cu121"), put(torch="2.5.9"), "torch"),
    ("builds_elsewhere_have_a_sister", "torch.json", torch("2.5.1", "pytorch-cu121"),
     put(index="pytorch-cu124", cuda="12.4"), "index"),
    ("builds_elsewhere_have_a_sister", "torch.json", torch("2.5.1", "pytorch-cu121"), put(status="verified"), "status"),
    ("evidence_is_the_weakest", "torch.json", torch("2.5.1", "pytorch-cu121"), put(status="documented"), "status"),
    ("evidence_is_the_weakest", "torch.json", torch("2.5.1", "pytorch-cu121"), put(unknown=["ncl"]), "unknown"),
    ("evidence_is_the_weakest", "torch.json", torch("2.5.1", "pytorch-cu121"), put(unknown=["cudnn"]), "unknown"),
    ("evidence_is_the_weakest", "torch.json", torch("2.0.1"), put(field_status={"cuddn": "inferred"}), "field_status"),
    ("gates_make_sense", "torch.json", torch("1.13.1"), put(compile_until="3.11"), "compile_until"),
    ("ceilings_are_derived", "transformers.json", {"torch": "2.4.1"}, put(newest="5.12.1"), "newest"),
    ("ceilings_are_derived", "transformers.json", {"torch": "2.4.1"}, put(broken=["5.8.1"]), "broken"),
    ("ceilings_are_derived", "transformers.json", {"torch": "2.4.1"}, put(next_released="2026-07-01"), "next_released"),
    ("what_ran_can_be_installed", "transformers_releases.json", {"transformers": "4.36.2"},
     put(pythons={"linux/amd64": ["3.12"]}), "pythons"),
    ("what_ran_can_be_installed", "transformers_releases.json", {"transformers": "4.18.0"},
     put(pythons={"linux/amd64": ["3.10", "3.11"]}), "pythons"),
    ("what_ran_can_be_installed", "transformers_runs.json", {"transformers": "4.36.2"}, put(transformers="3.36.2"), "transformers"),
    ("ceilings_are_derived", "transformers.json", {"torch": "2.4.1"}, put(torch="3.4.1", status="inferred"), "torch"),
    ("wheels_are_for_pythons_they_allow", "wheels.json", {"package": "torch", "version": "2.11.0"},
     put(requires_python=">=3.12"), "pythons"),
    ("dates_of_systems_are_in_order", "systems.json", {"os": "ubuntu 22.04"}, put(long_term="2020-01-01"), "long_term"),
    ("toolkits_have_the_floor_of_their_major", "toolkits.json", {"cuda": "12.4.1"}, put(driver_floor="530.30.02"), "driver_floor"),
    ("drivers_never_go_back", "toolkits.json", {"cuda": "12.4.1"}, put(driver="540.10"), "driver"),
    ("gpu_names_are_unique_and_have_a_family", "gpus.json", {"capability": "9.0"}, put(names=["H100", "H200"]), "families"),
    ("gpu_names_are_unique_and_have_a_family", "gpus.json", {"capability": "8.0"},
     put(names=["H100"], families={"data centre": ["H100"]}), "names"),
    ("further_names_are_of_known_gpus", "gpu_names.json", {"capability": "9.0", "about": "driver"},
     put(capability="9.9"), "capability"),
    ("further_names_are_of_known_gpus", "gpu_names.json", {"capability": "9.0", "about": "driver"}, put(names=["A100"]), "names"),
    ("gpus_have_the_toolkits_of_their_architecture", "gpus.json", {"capability": "9.0"}, put(first_cuda="11.7"), "first_cuda"),
    ("gpus_have_the_toolkits_of_their_architecture", "gpus.json", {"capability": "7.0"}, put(last_cuda=None), "last_cuda"),
    ("gpus_have_the_toolkits_of_their_architecture", "gpus.json", {"capability": "9.0"}, put(capability="9.1"), "capability"),
    ("images_have_tags_of_their_own", "nvidia_images.json", {"cuda": "12.4.1", "os": "ubuntu22.04"},
     put(flavours=["develop"], pulled=[]), "flavours"),
    ("images_have_tags_of_their_own", "nvidia_images.json", {"cuda": "12.4.1", "os": "ubuntu22.04"},
     put(pulled=["12.4.1-base-ubuntu20.04"]), "pulled"),
    ("images_are_in_a_possible_state", "nvidia_images.json", {"cuda": "12.4.1", "os": "ubuntu22.04"},
     put(state="recent"), "state"),
    ("warnings_have_a_sentence", "companions.json", {"name": "detectron2"}, put(says=""), "says"),
    ("releases_have_a_range_and_a_day", "companions.json", vllm("0.33.0"), put(released=None), "released"),
    ("releases_have_a_range_and_a_day", "companions.json", {"name": "detectron2"}, put(kind="wheel"), "first"),
    ("empty_packages_name_another", "companions.json", vllm("0.33.0"), put(kind="meta"), "needs"),
    ("weaker_statuses_are_of_fields", "companions.json", vllm("0.33.0"), put(field_status={"torhc": "inferred"}), "field_status"),
    ("weaker_statuses_are_of_fields", "companions.json", vllm("0.33.0"), put(field_status={"torch": "verified"}), "field_status"),
    ("releases_have_a_range_and_a_day", "companions.json", vllm("0.33.0"), put(last=None), "last"),
    ("ranges_do_not_overlap", "companions.json", vllm("0.10.0"), put(last="0.10.2"), "last"),
    ("releases_have_a_range_and_a_day", "companions.json", vllm("0.33.0"), put(last="0.32.0"), "last"),
    ("ranges_end_on_the_day_of_the_next", "companions.json", vllm("0.10.0"), put(next_released="2025-09-14"), "next_released"),
    ("ranges_end_on_the_day_of_the_next", "companions.json", vllm("0.33.0"), put(next_released="2026-11-20"), "next_released"),
    ("torch_is_known", "companions.json", vllm("0.33.0"), put(torch="==2.14.9"), "torch"),
    ("torch_is_known", "companions.json", vllm("0.33.0"), put(cuda=[11]), "cuda"),
    ("cpp_of_torch_names_a_torch", "companions.json", vllm("0.33.0"), put(torch="", torch_minor_abi=True), "torch"),
    ("pythons_are_known", "companions.json", vllm("0.33.0"), put(python=">=3.16"), "python"),
    ("cuda_lines_are_of_their_majors", "companions.json", vllm("0.33.0"), put(cuda_lines=["12.8", "13.0"]), "cuda"),
    ("families_have_a_name_for_each_cuda", "companions.json", {"name": "cupy-cuda13x", "first": "14.0.0"}, put(cuda=[12]), "family"),
    ("families_have_a_name_for_each_cuda", "companions.json", vllm("0.33.0"), put(family="x", cuda=[12, 13]), "cuda"),
    ("gpu_code_is_known", "companions.json", vllm("0.33.0"), put(sm=["sm_90a", "compute_94"]), "sm"),
]  # fmt: skip

# check, text of policy.toml or rulings.toml, its replacement, the message
SLIPS: list[tuple[str, str, str, str]] = [
    ("preferences_are_known", '"features"', '"fetures"', "preference: 'fetures' is not one of"),
    ("policy_names_are_known", 'release = "bookworm"', 'release = "sid"', "registry.release"),
    ("policy_names_are_known", 'systems = ["debian 11"', 'systems = ["debian 7", "debian 11"', "bootstrap.systems"),
    ("policy_names_are_known", '"debian 11" = ["python3-distutils"]', '"debian 7" = ["python3-distutils"]', "more_packages"),
    ("policy_names_are_known", '[indexes.pytorch-cu118]', '[indexes.pytorch-cu117]', "indexes: has no name for 'pytorch-cu118'"),
    ("policy_names_are_known", '"3.10" = "3.10.', '"3.10" = "3.11.', "managed.builds: 3.11."),
    ("policy_names_are_known", '"3.14"]', '"3.14", "3.99"]', "registry.pythons"),
    ("rulings_hold", 'why = "a wheel says what it is; a plan does not"', 'why = ""', "needs two sources"),
    ("rulings_hold", 'row = "torch.json 2.14.1 pypi"', 'row = "torch.json 9.9 pypi"', "there is no row torch.json 9.9 pypi"),
]  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(catalog.FOLDER / "facts", tmp_path / "facts")
    shutil.copy(catalog.FOLDER / "policy.toml", tmp_path)
    shutil.copy(catalog.FOLDER / "rulings.toml", tmp_path)
    return tmp_path


def with_fault(
    file: str, key: Row, edit: Callable[[Row, list[Row]], object]
) -> tuple[CatalogFacts, Row]:
    """All facts, one table of them changed; the others are not read again."""
    table = next(table for table in catalog.TABLES if table.file == file)
    lines = [json.loads(json.dumps(row, default=str)) for row in catalog.written(table)]
    row = next(row for row in lines if key.items() <= row.items())
    edit(row, lines)
    made = msgspec.convert(
        lines, tuple[table.row, ...], dec_hook=catalog.serialize.from_plain
    )  # type: ignore[name-defined]
    tables = {**SOUND.tables, file: made}
    field = file.removesuffix(".json")
    loaded = (
        replace(SOUND.catalog, **{field: made})
        if hasattr(SOUND.catalog, field)
        else SOUND.catalog
    )
    return replace(
        SOUND, catalog=loaded, tables=tables, lines={**SOUND.lines, file: lines}
    ), row


def test_the_catalog_is_sound() -> None:
    assert verify.find_problems(SOUND, checks.ALL) == []


@pytest.mark.parametrize(
    ("check", "file", "key", "edit", "field"),
    FAULTS,
    ids=[f"{n} {fault[0]}" for n, fault in enumerate(FAULTS)],
)
def test_planted_fault_is_detected(
    check: str,
    file: str,
    key: Row,
    edit: Callable[[Row, list[Row]], object],
    field: str,
) -> None:
    facts, row = with_fault(file, key, edit)
    found = list(BY_NAME[check](facts))
    assert found
    table = next(
        table for table in catalog.TABLES if table.file == found[0].row.split()[0]
    )
    assert field in {problem.field for problem in found}
    assert any(
        problem.row.endswith(" ".join(str(row[key]) for key in table.key if key in row))
        for problem in found
    )


@pytest.mark.parametrize(
    ("check", "text", "slip", "said"), SLIPS, ids=[slip[3][:30] for slip in SLIPS]
)
def test_mistake_in_the_policy_is_detected(
    copy: Path, check: str, text: str, slip: str, said: str
) -> None:
    path = next(
        path for path in sorted(copy.glob("*.toml")) if text in path.read_text()
    )
    path.write_text(path.read_text().replace(text, slip, 1))
    facts = replace(
        SOUND, catalog=catalog.load(copy), rulings=catalog.load_rulings(copy)
    )
    assert said in "\n".join(map(str, BY_NAME[check](facts)))


def test_every_check_has_a_planted_fault() -> None:
    assert {fault[0] for fault in FAULTS} | {slip[0] for slip in SLIPS} == set(BY_NAME)


def test_wrong_fact_exits_with_3_naming_row_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = next(
        row
        for row in catalog.written(catalog.TORCH)
        if row["torch"] == "2.0.1" and row["index"] == "pypi"
    )
    own = tmp_path / "own" / "facts"
    own.mkdir(parents=True)
    changed = {
        "date": "2026-11-24",
        "rows": [{**row, "checked": "2026-11-24", "driver_floor": "515.48.07"}],
    }
    (own / "torch.json").write_text(json.dumps(changed))
    assert cli.run(["catalog", "verify", "--catalog", str(own.parent)]) == 3
    told = capsys.readouterr().err
    assert (
        "torch.json 2.0.1 pypi: driver_floor: is 515.48.07; for CUDA 11 it is 450.80.02"
        in told
    )


def test_command_reports_what_agrees() -> None:
    done = CliRunner().invoke(cli.cli, ["catalog", "verify"])
    assert (done.exit_code, done.output) == (
        0,
        f"{sum(map(len, SOUND.tables.values()))} facts of 2026-11-23 agree\n",
    )


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["12.4.1"],
            0,
            "supported    12.4.1-*-ubuntu22.04: base, cudnn-devel, cudnn-runtime, devel, runtime\n",
        ),
        (["12.7"], 2, "no tag of nvidia/cuda for CUDA 12.7 is in the catalog"),
        (["newest"], 2, "'newest': a version is digits and dots"),
    ],
)
def test_tags_of_images_are_listed(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["catalog", "images", *words]) == code
    told = capsys.readouterr()
    assert said in told.out + told.err


# --- online: what uv answered, as it answered ----------------------------------------------------------------------

WHEELS = tomllib.loads("""
[[packages]]
name = "torch"
version = "2.0.1"
wheels = [
  { url = "x/torch-2.0.1-cp38-cp38-manylinux1_x86_64.whl", upload-time = 2023-05-08T16:35:32Z },
  { url = "x/torch-2.0.1-cp39-cp39-manylinux1_x86_64.whl", upload-time = 2023-05-08T16:35:32Z },
  { url = "x/torch-2.0.1-cp310-cp310-manylinux1_x86_64.whl", upload-time = 2023-05-08T16:35:32Z },
  { url = "x/torch-2.0.1-cp311-cp311-manylinux1_x86_64.whl", upload-time = 2023-05-08T16:35:32Z },
  { url = "x/torch-2.0.1-cp312-cp312-manylinux2014_aarch64.whl", upload-time = 2023-05-09T16:35:32Z },
  { url = "x/torch-2.0.1-cp311-none-macosx_11_0_arm64.whl", upload-time = 2023-05-07T16:35:32Z },
]
""")
PINS = {"torch": "2.0.1", "nvidia-cuda-runtime-cu11": "11.7.99", "nvidia-cudnn-cu11": "8.5.0.96",
        "nvidia-nccl-cu11": "2.14.3", "triton": "2.0.0"}  # fmt: skip


def asked(facts: Catalog, wheels: Any = WHEELS, **other: str) -> list[Problem]:
    build = next(
        build for build in online.builds(facts) if build.torch == Version("2.0.1")
    )
    pins = {
        **PINS,
        **{name.replace("_", "-"): version for name, version in other.items()},
    }
    packages = [
        {"name": name, "version": version} for name, version in pins.items() if version
    ]
    return list(online.compare(build, wheels, {"packages": packages}))


def test_an_index_that_agrees_has_no_problems(facts: Catalog) -> None:
    assert asked(facts) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            {"nvidia_cudnn_cu11": "8.6"},
            "torch.json 2.0.1 pypi: cudnn: is 8.5.0.96; the index has 8.6",
        ),
        (
            {"nvidia_cuda_runtime_cu11": "11.7.60"},
            "torch.json 2.0.1 pypi: cuda: is 11.7.99; the index has 11.7.60",
        ),
        (
            {"nvidia_nccl_cu11": "2.15"},
            "torch.json 2.0.1 pypi: nccl: is 2.14.3; the index has 2.15",
        ),
        ({"triton": ""}, "torch.json 2.0.1 pypi: triton: is 2.0.0; the index has None"),
    ],
)
def test_an_index_that_differs_is_named(
    facts: Catalog, other: dict[str, str], said: str
) -> None:
    assert [str(problem) for problem in asked(facts, **other)] == [said]


def test_a_wheel_that_is_gone_is_named(facts: Catalog) -> None:
    fewer = {
        "packages": [{"name": "torch", "wheels": WHEELS["packages"][0]["wheels"][1:]}]
    }
    assert [str(problem) for problem in asked(facts, fewer)] == [
        "torch.json 2.0.1 pypi: pythons: is 3.8 3.9 3.10 3.11; the index has 3.9 3.10 3.11"
    ]


def test_arguments_passed_to_uv(facts: Catalog) -> None:
    build = next(
        build for build in online.builds(facts) if build.torch == Version("1.13.1")
    )
    assert (
        online.family(build)
        == "torch==1.13.1\ntorchvision==0.14.1\ntorchaudio==0.13.1\n"
    )
    words = online.pins_argv(build, "uv", Path("f"))
    assert words[words.index("--python-version") + 1] == "3.8"
    assert "--universal" in online.wheels_argv(build, "uv", Path("f"))
    assert re.search("no such family", str(online.unreadable(build, "× No solution")))
