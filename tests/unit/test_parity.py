"""What the payload repeats of envbuilder, since nothing of envbuilder is in an image: both must say the same."""

import ast
import importlib.util
import itertools
import json
import re
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from acceptance import checks, cuda_names, deadline, elf, limits, main
from acceptance.checks import (
    contract,
    custom_check,
    gpu,
    gpu_features,
    identity,
    inspection,
)
from acceptance.events import bound_text, to_json
from envbuilder import catalog, grammar, model
from envbuilder.acceptance import (
    check_text,
    event_stream,
    events,
    host_checks,
    shipped,
    suite,
    verdict,
)
from envbuilder.catalog import gpus
from envbuilder.lock import cuda_sonames
from envbuilder.lock.lock_file import LOCK_FILE
from envbuilder.model import Check, Status

PAYLOAD = Path(__file__).parents[2] / "docker" / "payload"
INSTALLER = PAYLOAD.parent / "install" / "wheels.py"


@pytest.fixture(scope="module")
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheels", INSTALLER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- GPUs ----------------------------------------------------------------------------------------------------------

CAPABILITIES = (
    *("3.7", "5.0", "6.0", "6.1", "7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0"),
    *("10.0", "10.3", "11.0", "12.0", "12.1", "13.0"),
)
NUMBERS = tuple(capability.replace(".", "") for capability in CAPABILITIES)
ARCHITECTURES = (
    *(
        f"{kind}_{number}{suffix}"
        for kind in ("sm", "compute")
        for number in NUMBERS
        for suffix in ("", "a", "f")
    ),
    *("gfx90a", "sm_", "90", ""),
)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_host_and_image_agree_on_which_gpus_run_code(architecture: str) -> None:
    host = [
        gpus.runs_on(architecture, Version(capability)) for capability in CAPABILITIES
    ]
    image = []
    for capability in CAPABILITIES:
        major, minor = map(int, capability.split("."))
        image.append(gpu.runs_on([architecture], (major, minor)))
    assert image == host


def test_host_and_image_agree_on_features_of_gpus() -> None:
    on_host = {
        row.feature: (row.capability.major, row.capability.minor)
        for row in catalog.load().gpu_features
    }
    in_image = {row.name: row.capability for row in gpu_features.GPU_FEATURES}
    assert in_image == on_host
    for row, other in zip(
        catalog.load().gpu_features, gpu_features.GPU_FEATURES, strict=True
    ):
        later = {}
        for capability, torch in row.torch_for.items():
            major, minor = map(int, capability.split("."))
            later[major, minor] = torch.release[:2]
        assert later == other.torch_for


# --- secrets -------------------------------------------------------------------------------------------------------

SECRETS = (
    "hf_abcdefghijklmnopqrstuvwxyz",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "glpat-abcdefghijklmnop_-12",
    "AKIAIOSFODNN7EXAMPLE",
    "sk-abcdefghijklmnopqrstuvwxyz0123456789",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----",
    "https://me:hunter2@index.example/simple",
)
HARMLESS = (
    "hf_short",
    "ghp_short",
    "AKIA",
    "sk-learn",
    "-----BEGIN CERTIFICATE-----",
    "https://index.example/simple",
    "https://index.example/simple?me@there",
    "PATH=/usr/bin",
    "",
)


@pytest.mark.parametrize("text", [*SECRETS, *HARMLESS])
def test_host_and_image_use_the_same_secret_pattern(text: str) -> None:
    found = contract.SECRET.search(f"some {text} text") is not None
    assert found == (verdict.SECRET.search(f"some {text} text") is not None)
    assert found == (text in SECRETS)


def test_secret_pattern_starts_the_pattern_of_the_host() -> None:
    assert verdict.SECRET.pattern.startswith(f"{contract.SECRET.pattern}|")


@pytest.mark.parametrize(
    ("name", "value", "in_image", "on_host"),
    [
        ("HF_TOKEN", "something", True, True),
        ("MY_SECRET", "something", True, True),
        ("DB_PASSWORD", "something", True, True),
        ("OPENAI_API_KEY", "something", True, True),
        ("OPENAIAPIKEY", "something", True, True),
        ("LANG", "C.UTF-8", False, False),
        ("TOKENIZERS_PARALLELISM", "false", False, False),
        ("INDEX", "https://me:hunter2@index.example/simple", True, True),
        ("HF_TOKEN", "", False, False),
        # The host reads shell text too, where these are mostly no secrets: `token=$1`, `KEY=""`, a path.
        ("hf_token", "something", True, False),
        ("HF_TOKEN", "abc", True, False),
        ("HF_TOKEN", "$HF_TOKEN", True, False),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/key.json", True, False),
    ],
)
def test_a_variable_that_is_a_secret(
    name: str, value: str, in_image: bool, on_host: bool
) -> None:
    assert contract.is_secret(name, value) is in_image
    assert (verdict.SECRET.search(f"{name}={value}") is not None) is on_host


@pytest.mark.parametrize("name", sorted(contract.SECRET_FILES))
def test_secret_files_in_images_are_secrets_in_layers(name: str) -> None:
    assert host_checks.is_suspect(f"/usr/lib/{name}")  # where nothing else is looked at


@pytest.mark.parametrize(
    "name",
    [
        ".netrc",
        ".git-credentials",
        ".pypirc",
        ".env",
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
    ],
)
def test_secret_files_in_layers_are_secrets_in_images(name: str) -> None:
    assert host_checks.is_suspect(f"/usr/lib/{name}")
    assert name in contract.SECRET_FILES


# --- libraries and packages ----------------------------------------------------------------------------------------


def elf_file(path: Path, *segments: tuple[int, int, int, int]) -> str:
    """A library of PT_LOAD segments: (offset, address, bytes in the file, alignment), and 4096 bytes."""
    header = bytearray(64)
    header[:5] = b"\x7fELF\x02"
    struct.pack_into("<Q", header, 32, 64)
    struct.pack_into("<HH", header, 54, 56, len(segments))
    table = b""
    for offset, address, size, alignment in segments:
        table += struct.pack(
            "<IIQQQQQQ", elf.PT_LOAD, 5, offset, address, address, size, size, alignment
        )
    content = bytes(header) + table
    path.write_bytes(content.ljust(4096, b"\0"))
    return str(path)


@pytest.mark.parametrize(
    ("segments", "loadable"),
    [
        ([], True),
        ([(0, 0, 4096, 4096)], True),
        ([(0, 0x400000, 4096, 4096)], True),
        (
            [(512, 0x400000, 1024, 4096)],
            False,
        ),  # its places in the file and in memory do not agree
        ([(512, 0x400000, 1024, 0)], True),
        ([(512, 0x400000, 1024, 1)], True),
        ([(0, 0, 4096, 4096), (16, 0x1000, 16, 4096)], False),
    ],
)
def test_installer_and_suite_agree_on_loadable_segments(
    installer: ModuleType,
    tmp_path: Path,
    segments: list[tuple[int, int, int, int]],
    loadable: bool,
) -> None:
    path = elf_file(tmp_path / "lib.so", *segments)
    library = elf.read_elf(path)
    assert library is not None
    assert (library.whole, installer.is_loadable(Path(path))) == (loadable, loadable)


@pytest.mark.slow
def test_installer_and_suite_agree_on_real_libraries(installer: ModuleType) -> None:
    paths = sorted(Path(sys.base_prefix).rglob("lib-dynload/*.so"))[:40]
    assert paths
    for path in paths:
        library = elf.read_elf(str(path))
        assert library is not None
        assert library.whole
        assert installer.is_loadable(path)


def test_a_library_that_is_cut_off_is_not_whole(tmp_path: Path) -> None:
    path = elf_file(tmp_path / "lib.so", (0, 0, 4096, 4096))
    content = Path(path).read_bytes()
    for length in (4095, 100):  # in a segment, in the table of segments
        Path(path).write_bytes(content[:length])
        assert elf.read_elf(path) == elf.Library(whole=False)
    Path(path).write_bytes(content[:40])
    assert elf.read_elf(path) is None


def test_a_library_is_of_the_same_cuda_for_both() -> None:
    stems = (
        "cudart cublas cublasLt nvrtc nvJitLink cupti cufft cufftw curand cusparse cusolver cudnn cudnn_ops_infer "
        "nccl torch cuda cudart-d0da41ae"
    ).split()
    numbers = (
        "",
        ".2",
        ".8",
        ".9",
        ".10",
        ".11",
        ".11.0",
        ".12",
        ".12.8.93",
        ".13",
        ".x",
        ".123456",
    )
    known = 0
    for stem, number in itertools.product(stems, numbers):
        soname = f"lib{stem}.so{number}"
        majors = cuda_sonames.cuda_majors(soname)
        cudnn = cuda_sonames.cudnn_major(soname)
        assert cuda_names.cuda_majors(soname) == majors, soname
        assert cuda_names.cudnn_major(soname) == cudnn, soname
        known += bool(majors or cudnn)
    assert known > 80


def test_names_of_cuda_libraries_are_those_of_nvidias_wheels() -> None:
    """Read from the wheels of CUDA 11.7, 12.9 and 13.x on PyPI on 2026-11-28."""
    of_wheels = {
        11: "cudart.so.11.0 nvrtc.so.11.2 cublas.so.11 cufft.so.10 curand.so.10 cusparse.so.11 cusolver.so.11",
        12: "cudart.so.12 nvrtc.so.12 cublasLt.so.12 cufft.so.11 curand.so.10 cusparse.so.12 cusolver.so.11",
        13: "cudart.so.13 nvrtc.so.13 cublas.so.13 cufft.so.12 curand.so.10 cusparse.so.12 cusolver.so.12",
    }  # fmt: skip
    for major, names in of_wheels.items():
        for name in names.split():
            assert major in cuda_sonames.cuda_majors(f"lib{name}"), name


@pytest.mark.parametrize(
    "name",
    [
        "torch",
        "Zope.Interface",
        "ruamel.yaml",
        "huggingface_hub",
        "a--b__c..d",
        "nvidia-cuda-runtime-cu12",
    ],
)
def test_package_names_are_normalized_identically(name: str) -> None:
    assert identity.normalize(name) == canonicalize_name(name)


@pytest.mark.parametrize("content", [b"", b"x", b"content" * 1_000_000])
def test_record_hashes_are_written_identically(
    installer: ModuleType, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert identity.record_hash(str(file), "sha256") == installer.digest(file)


# --- the protocol --------------------------------------------------------------------------------------------------


def test_every_check_has_a_bound_and_vice_versa() -> None:
    ids = [check.id for check in checks.CHECKS]
    assert set(limits.read_limits().bounds) == set(ids)
    assert len(set(ids)) == len(ids)
    assert not set(ids) & set(suite.OUTSIDE)


def test_ids_and_titles_of_checks_are_valid_on_the_host() -> None:
    for check in checks.CHECKS:
        assert grammar.matches(grammar.CheckId, check.id)
        assert grammar.matches(grammar.Prose, check.title)


def test_no_two_checks_have_one_title_in_image_and_host() -> None:
    titles = [check.title for check in checks.CHECKS] + list(suite.OUTSIDE.values())
    assert len({title.casefold() for title in titles}) == len(titles)


def test_titles_of_host_checks_match() -> None:
    written = {}
    for module in (host_checks, shipped, verdict):
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if isinstance(node, ast.Call):
                words = {word.arg: word.value for word in node.keywords}
                constants = {
                    name: value.value
                    for name, value in words.items()
                    if isinstance(value, ast.Constant)
                }
                if "id" in constants and "title" in constants:
                    written[constants["id"]] = constants["title"]
    announced = {
        name: title for name, title in suite.OUTSIDE.items() if name in written
    }
    assert announced
    assert {
        name: title for name, title in written.items() if name in suite.OUTSIDE
    } == announced


def test_payload_statuses_exist_on_the_host() -> None:
    assert set(custom_check.STATUSES) == {status.value for status in Status}


STATUSES = [status.value for status in Status]


@pytest.mark.parametrize(
    "statuses",
    [
        found
        for length in range(len(STATUSES) + 1)
        for found in itertools.combinations(STATUSES, length)
    ],
)
def test_verdict_is_computed_identically(statuses: tuple[str, ...]) -> None:
    made = [
        Check(id=f"a.{status}", title="a", status=Status(status)) for status in statuses
    ]
    assert main.derive_verdict(set(statuses)) == verdict.verdict(made).value


def sent(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, **to_json(fields, spell_infinite=True)})


@pytest.mark.parametrize(
    "answer",
    [
        checks.Answer(),
        checks.Answer(
            value=float("nan"),
            bound={"max": 1.0},
            detail="too much",
            remedy="less",
            unit="s",
        ),
        checks.Answer(value="x", bound="y", findings=["one", "two"]),
    ],
)
def test_the_host_reads_every_answer_of_the_suite(answer: checks.Answer) -> None:
    check = checks.CHECKS[0]
    result = events.parse(sent("result", **check.result("failed", answer, 1.234)))
    assert isinstance(result, events.Result)
    assert (result.id, result.title, result.status.value) == (
        check.id,
        check.title,
        "failed",
    )
    assert (result.detail, result.remedy, result.unit) == (
        answer.detail,
        answer.remedy,
        answer.unit,
    )
    assert list(result.findings) == list(answer.findings)


def test_payload_facts_exist_on_the_host() -> None:
    known = set(events.Facts.__struct_fields__)
    assert set(inspection.first_facts()) <= known
    assert set(names_in(r'facts\["(\w+)"\]')) <= known
    assert set(names_in(r'compare\(\s*inspection,\s*"(\w+)"')) <= known


def test_suite_reads_only_existing_lock_fields() -> None:
    read = names_in(r'locked\(\s*"(\w+)"') + names_in(
        r'compare\(\s*inspection,\s*"(\w+)"'
    )
    assert {"driver_floor", "excluded", "features", "arch_list", "cudnn"} <= set(read)
    assert set(read) - {"os"} <= set(
        model.Stack.__dataclass_fields__
    )  # the system is the base's
    assert "os" in model.Base.__dataclass_fields__
    assert set(names_in(r'flavour == "(\w+)"')) <= {
        flavour.value for flavour in model.Flavour
    }


def names_in(pattern: str) -> list[str]:
    """What a pattern finds in the checks."""
    texts = [
        path.read_text()
        for path in sorted((PAYLOAD / "acceptance" / "checks").glob("*.py"))
    ]
    return re.findall(pattern, "\n".join(texts))


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (1, None),
        (1, {}),
        (1, {"min": 0}),
        (1, {"max": 2}),
        (1, {"min": 0, "max": 2}),
        ("a", "a"),
        ("a", "b"),
    ],
)
def test_bounds_are_formatted_identically(value: object, bound: object) -> None:
    check = Check(id="a.b", title="a", status=Status.PASSED, value=value, bound=bound)
    assert f"{value}{bound_text(value, bound)}" == check_text.number_text(check)


def test_custom_checks_have_the_same_id() -> None:
    for name in ("check_products.py", "my-check.py", "a.b.py"):
        assert custom_check.from_file(Path("/somewhere") / name).id == suite.own_id(
            Path("/elsewhere") / name
        )


def test_the_host_waits_longer_than_the_suite() -> None:
    assert limits.DEADLINE == suite.CHECK_DEADLINE
    assert deadline.GRACE < suite.GRACE


def test_the_exit_codes_of_the_suite_are_expected() -> None:
    for code in (main.PASSED, main.NOT_PASSED):
        assert event_stream.ending_text(code, out_of_memory=False, errors=["x"]) == ""


def test_host_and_image_agree_on_the_lock_s_path() -> None:
    assert f"{shipped.FOLDER}/{LOCK_FILE}" == main.LOCK
