"""The installer that is mounted into builds: what it leaves out, its RECORD says; what it keeps is whole."""

import ast
import base64
import csv
import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheels() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "wheels", ROOT / "docker" / "install" / "wheels.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(path: Path) -> str:
    return (
        "sha256="
        + base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest())
        .rstrip(b"=")
        .decode()
    )


def install(site: Path, files: dict[str, bytes]) -> Path:
    """A distribution as an installer leaves it."""
    rows = []
    for name, content in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append([name, digest(path), str(len(content))])
    info = site / "thing-1.0.dist-info"
    info.mkdir()
    with (info / "RECORD").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(
            [*rows, ["thing-1.0.dist-info/RECORD", "", ""]]
        )
    return info


def record(info: Path) -> dict[str, tuple[str, str]]:
    with (info / "RECORD").open(newline="") as stream:
        return {name: (sha, size) for name, sha, size in csv.reader(stream)}


def test_removed_files_leave_the_record_too(wheels: ModuleType, tmp_path: Path) -> None:
    info = install(
        tmp_path,
        {"thing/a.py": b"x", "thing/tests/test_a.py": b"y", "thing/lib.a": b"z"},
    )
    assert wheels.trim(info, [("remove", "*/tests/*"), ("remove", "*.a")]) == 2
    assert set(record(info)) == {"thing/a.py", "thing-1.0.dist-info/RECORD"}
    assert not (tmp_path / "thing" / "tests" / "test_a.py").exists()


def test_the_first_rule_decides(wheels: ModuleType, tmp_path: Path) -> None:
    info = install(tmp_path, {"nvidia/lib/x.a": b"x"})
    assert wheels.trim(info, [("keep", "nvidia/*"), ("remove", "*.a")]) == 0
    assert (tmp_path / "nvidia" / "lib" / "x.a").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("strip") is None,
    reason="binutils is not on this machine; it is in the image",
)
def test_a_stripped_library_has_its_new_hash(
    wheels: ModuleType, tmp_path: Path
) -> None:
    library = next(
        path
        for path in Path(sys.prefix).rglob("*.so")
        if path.stat().st_size > wheels.WORTH_STRIPPING
    )
    info = install(tmp_path, {"thing/x.so": library.read_bytes()})
    wheels.trim(info, [("strip", "*.so")])
    path = tmp_path / "thing" / "x.so"
    assert path.read_bytes()[:4] == b"\x7fELF"
    assert record(info)["thing/x.so"] == (digest(path), str(path.stat().st_size))


@pytest.mark.slow
def test_a_library_that_strip_breaks_stays_as_it_was(
    wheels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = next(
        path
        for path in Path(sys.prefix).rglob("*.so")
        if path.stat().st_size > wheels.WORTH_STRIPPING
    )
    info = install(tmp_path, {"thing/x.so": library.read_bytes()})
    before = record(info)
    monkeypatch.setattr(wheels, "is_loadable", lambda path: False)
    assert wheels.trim(info, [("strip", "*.so")]) == 0
    assert (tmp_path / "thing/x.so").read_bytes() == library.read_bytes()
    assert record(info) == before
    assert sorted(path.name for path in (tmp_path / "thing").iterdir()) == ["x.so"]


def test_misaligned_segment_is_detected(wheels: ModuleType, tmp_path: Path) -> None:
    library = next(
        path
        for path in Path(sys.prefix).rglob("*.so")
        if path.stat().st_size > wheels.WORTH_STRIPPING
    )
    content = bytearray(library.read_bytes())
    assert wheels.is_loadable(library)
    first = int.from_bytes(content[32:40], "little")
    sizes = [
        int.from_bytes(content[54:56], "little"),
        int.from_bytes(content[56:58], "little"),
    ]
    places = range(first, first + sizes[0] * sizes[1], sizes[0])
    place = next(p for p in places if int.from_bytes(content[p : p + 4], "little") == 1)
    content[place + 16] ^= 1
    (tmp_path / "x.so").write_bytes(bytes(content))
    assert not wheels.is_loadable(tmp_path / "x.so")


def test_twins_become_one_file(wheels: ModuleType, tmp_path: Path) -> None:
    big = b"x" * 200_000
    info = install(
        tmp_path,
        {
            "thing/a.so.1": big,
            "thing/a.so.1.0": big,
            "thing/small": b"x",
            "thing/other": b"x",
        },
    )
    assert wheels.trim(info, []) == 200_000
    assert (tmp_path / "thing/a.so.1").stat().st_ino == (
        tmp_path / "thing/a.so.1.0"
    ).stat().st_ino
    assert (tmp_path / "thing/small").stat().st_ino != (
        tmp_path / "thing/other"
    ).stat().st_ino


def test_every_file_gets_one_date(wheels: ModuleType, tmp_path: Path) -> None:
    info = install(tmp_path, {"thing/a.py": b"x"})
    wheels.settle(info)
    assert (tmp_path / "thing/a.py").stat().st_mtime == wheels.EPOCH


def test_every_rule_has_a_valid_verb_and_a_reason(wheels: ModuleType) -> None:
    assert {verb for verb, _ in wheels.rules()} == {"remove", "strip", "keep"}
    lines = [
        line
        for line in wheels.TRIM.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert sum("#" in line for line in lines) >= len(lines) - 1


def test_secrets_become_uv_settings_only(
    wheels: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "SECRETS", tmp_path)
    (tmp_path / "ca").write_text("CA")
    (tmp_path / "index").write_text("https://me:pw@index.example/simple\n")
    env = wheels.uv_environment()
    assert env["SSL_CERT_FILE"] == str(tmp_path / "ca")
    assert env["UV_DEFAULT_INDEX"] == "https://me:pw@index.example/simple"
    assert "NETRC" not in env


def test_python_3_8_can_parse_programs_of_images() -> None:
    for path in (ROOT / "docker").rglob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
