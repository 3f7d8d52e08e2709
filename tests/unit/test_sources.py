"""Packages of sources: archives, the program that builds them, and what a lock and a build context have of them."""

import importlib.util
import io
import json
import tarfile
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

from envbuilder import resources, serialize
from envbuilder.errors import LockError, UsageError
from envbuilder.files import file_digest
from envbuilder.lock.known_sources import KnownSources, packages_without_wheel
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.sources.folder_files import folder_files
from envbuilder.lock.sources.sdist_file import sdists_in
from envbuilder.lock.sources.source_archive import SourceArchive, pack, unpacked
from envbuilder.lock.sources.source_build import build_system_of, refuse_compiled
from envbuilder.lock.validation import find_problems
from envbuilder.model import BuildTool, Layer, Lock, Source, SourceKind, Wheel
from envbuilder.processes import Completed
from envbuilder.render.context import place_of, render_context
from envbuilder.render.context_folder import differences, write_context

PRESET = sorted(
    (Path(__file__).parents[2] / "docker" / "images").glob("*/" + LOCK_FILE)
)[0]
DIGEST = "0" * 64
ARCHIVE = pack({"pyproject.toml": (b"[project]\n", False)})


@pytest.fixture(scope="module")
def program() -> ModuleType:
    path = resources.folder("sources") / "build_sources.py"
    spec = importlib.util.spec_from_file_location("build_sources", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- archives ------------------------------------------------------------------------------------------------------


def no_git(argv: object) -> Completed:
    return Completed(returncode=128, stdout="", stderr="fatal: not a git repository")


def test_the_same_files_are_the_same_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.joinpath("b").mkdir(parents=True)
        folder.joinpath("b/x.py").write_text("x")
        folder.joinpath("a").write_text("a")
        folder.joinpath("a").chmod(0o755)
    for junk in ("__pycache__", ".venv", "dist", "x.egg-info"):
        (tmp_path / "two" / junk).mkdir()
        (tmp_path / "two" / junk / "x").write_text("x")
    (tmp_path / "two/__pycache__/x.pyc").write_text("x")
    packed = [pack(folder_files(tmp_path / name, no_git)) for name in ("one", "two")]
    assert packed[0] == packed[1]
    (tmp_path / "two/a").chmod(0o644)
    assert pack(folder_files(tmp_path / "two", no_git)) != packed[0]


def test_a_folder_in_git_has_what_git_does_not_ignore(tmp_path: Path) -> None:
    for name in ("a.py", "ignored", "build"):
        (tmp_path / name).write_text(name)

    def git(argv: list[str]) -> Completed:
        assert "core.fsmonitor=false" in argv
        names = "a.py\0deleted.py\0lib/dist/x.py\0__pycache__/a.pyc\0"
        return Completed(returncode=0, stdout=names, stderr="")

    (tmp_path / "lib/dist").mkdir(parents=True)
    (tmp_path / "lib/dist/x.py").write_text("x")
    assert sorted(folder_files(tmp_path, git)) == ["a.py", "lib/dist/x.py"]  # type: ignore[arg-type]


def test_links_out_of_a_folder_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    folder.mkdir()
    (folder / "a.py").write_text("a")
    (folder / "b.py").symlink_to("a.py")
    assert folder_files(folder, no_git)["b.py"][0] == b"a"
    (folder / "c.py").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="leads out of"):
        folder_files(folder, no_git)


def test_a_large_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envbuilder.lock.sources.folder_files.MOST_BYTES", 10)
    (tmp_path / "data.bin").write_bytes(b"x" * 8)
    assert len(folder_files(tmp_path, no_git)) == 1
    (tmp_path / "more.bin").write_bytes(b"x" * 8)
    with pytest.raises(UsageError, match="has more than"):
        folder_files(tmp_path, no_git)


def tar_of(path: Path, *members: tuple[str, bytes | str]) -> Path:
    """A tar: bytes are a file's, text is where a link leads."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type = tarfile.SYMTYPE
                member.linkname = content
                tar.addfile(member)
            else:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def test_links_of_a_commit_are_followed_within_it_only(tmp_path: Path) -> None:
    tar = tar_of(
        tmp_path / "git.tar",
        ("a/x.py", b"x"),
        ("a/y.py", "x.py"),
        ("z.py", "a/x.py"),
        ("out.py", "../../etc/passwd"),
        ("root.py", "/etc/passwd"),
    )
    files = unpacked(tar)
    assert sorted(files) == ["a/x.py", "a/y.py", "z.py"]
    assert files["z.py"] == (b"x", False)


def test_archives_that_lead_out_are_refused(
    tmp_path: Path, program: ModuleType
) -> None:
    for name in ("../evil", "/evil", "a/../../evil", "..\\evil"):
        archive = tar_of(tmp_path / "a.tar.gz", (name, b"x"))
        with pytest.raises(program.BuildError, match="leads out of it"):
            program.unpack(archive, tmp_path / "out")
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("../evil", "x")
    with pytest.raises(program.BuildError, match="leads out of it"):
        program.unpack(zipped, tmp_path / "out")
    assert not (tmp_path / "evil").exists()


def test_links_in_source_packages_are_left_out(
    tmp_path: Path, program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tar_of(
        tmp_path / "a.tar.gz", ("a/link", "/etc"), ("a/link/x", b"x"), ("a/y", b"y")
    )
    program.unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out/a/link").is_symlink()
    assert "left out a/link" in capsys.readouterr().err


def test_archives_that_unpack_to_too_much_are_refused(
    tmp_path: Path, program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar_of(tmp_path / "a.tar.gz", ("a/x", b"0" * 100))
    monkeypatch.setattr(program, "MOST_BYTES", 10)
    with pytest.raises(program.BuildError, match="unpacks to too much"):
        program.unpack(archive, tmp_path / "out")
    monkeypatch.setattr("envbuilder.lock.sources.source_archive.MOST_UNPACKED", 10)
    with pytest.raises(LockError, match="unpacks to more than"):
        SourceArchive(archive)
    (tmp_path / "b.tar.gz").write_bytes(b"no archive")
    with pytest.raises(LockError, match="is not a source archive"):
        SourceArchive(tmp_path / "b.tar.gz")


# --- building ------------------------------------------------------------------------------------------------------


def test_only_the_content_of_a_wheel_decides_its_bytes(
    tmp_path: Path, program: ModuleType
) -> None:
    names = ["m-1.dist-info/RECORD", "m/b.py", "m/a.py"]
    for number, order in enumerate((names, names[::-1])):
        with zipfile.ZipFile(tmp_path / f"{number}.whl", "w", 8 * number) as file:
            for name in order:
                info = zipfile.ZipInfo(name, (1990 + number, 1, 1, 0, 0, 0))
                file.writestr(info, name)
        program.settle(tmp_path / f"{number}.whl", tmp_path / f"settled{number}.whl")
    settled = [(tmp_path / f"settled{number}.whl").read_bytes() for number in (0, 1)]
    assert settled[0] == settled[1]
    with zipfile.ZipFile(tmp_path / "settled0.whl") as file:
        assert file.namelist() == ["m/a.py", "m/b.py", "m-1.dist-info/RECORD"]


def test_another_wheel_than_the_locked_one_is_an_error(
    tmp_path: Path, program: ModuleType
) -> None:
    wheel = tmp_path / "m-1-py3-none-any.whl"
    wheel.write_bytes(b"x")
    digest = sha256(b"x").hexdigest()
    package = {"wheel": wheel.name, "wheel_sha256": digest}
    program.compare(package, wheel)
    with pytest.raises(program.BuildError, match="is another wheel here"):
        program.compare({**package, "wheel_sha256": DIGEST}, wheel)
    with pytest.raises(program.BuildError, match="the lock has m-2"):
        program.compare({**package, "wheel": "m-2-py3-none-any.whl"}, wheel)
    (tmp_path / "m.tar").write_bytes(b"x")
    with pytest.raises(program.BuildError, match="another file than the locked one"):
        program.check_archive({"archive": "m.tar", "sha256": DIGEST}, tmp_path)


def archive_of(tmp_path: Path, **files: str) -> SourceArchive:
    content = {
        name.replace("_", "."): (text.encode(), False) for name, text in files.items()
    }
    path = tmp_path / "a.tar"
    path.write_bytes(pack(content))
    return SourceArchive(path)


def test_the_build_system_is_read_and_checked(tmp_path: Path) -> None:
    legacy = build_system_of(archive_of(tmp_path, setup_py=""), "")
    assert legacy.backend == "setuptools.build_meta:__legacy__"
    table = '[build-system]\nrequires = ["flit-core>=3", "x; python_version<\'3\'"]\n'
    system = build_system_of(archive_of(tmp_path, pyproject_toml=table), "")
    assert system.required_names == ["flit-core", "x"]
    reasons = {
        'build-backend = "a;b"': "build backend",
        'backend-path = ["../.."]': "backend-path leads out",
        "requires = 1": "is no list of requirements",
        'requires = ["x @ https://host/x.whl"]': "names an address",
        'requires = ["-r x"]': "is none",
    }
    for line, reason in reasons.items():
        text = f"[build-system]\n{line}\n"
        with pytest.raises(LockError, match=reason):
            build_system_of(archive_of(tmp_path, pyproject_toml=text), "")
    with pytest.raises(LockError, match=r"no pyproject\.toml and no setup\.py"):
        build_system_of(archive_of(tmp_path, readme_md=""), "")


def test_packages_that_compile_for_cuda_are_refused(tmp_path: Path) -> None:
    refuse_compiled(archive_of(tmp_path, setup_py="from setuptools import setup"), "a")
    for files in ({"kernel_cu": ""}, {"setup_py": "CUDAExtension()"}):
        with pytest.raises(LockError, match="its source package compiles") as caught:
            refuse_compiled(archive_of(tmp_path, **files), "flash-attn")
        assert "flash_attn-VERSION" in caught.value.hint


# --- what uv says --------------------------------------------------------------------------------------------------


def test_packages_without_a_wheel_are_read_of_uv() -> None:
    stderr = "hint: Wheels are required\n  for `Antlr4_Runtime` because building\n"
    assert packages_without_wheel(stderr) == {"antlr4-runtime"}


def test_uv_is_given_paths_of_wheels_and_names_of_sdists(tmp_path: Path) -> None:
    known = KnownSources(
        wheels={"m": Path("/cache/m-1+a-py3-none-any.whl")},
        lines={"m[x] @ ./m": "m[x]"},
        sdists=frozenset({"n"}),
    )
    assert known.translate(["m[x] @ ./m", "peft"]) == ["m[x]", "peft"]
    arguments = known.arguments(tmp_path)
    assert arguments[-2:] == ["--no-binary", "n"]
    constraints = Path(arguments[arguments.index("--constraint") + 1]).read_text()
    assert constraints == "m @ file:///cache/m-1%2Ba-py3-none-any.whl\n"
    assert KnownSources().arguments(tmp_path) == []


def test_source_packages_of_an_index_need_a_hash() -> None:
    sdist = {"url": "https://h/a%2Bb-1.tar.gz", "hashes": {"sha256": DIGEST}}
    package = {"name": "A", "version": "1", "sdist": sdist}
    [found] = sdists_in({"packages": [package, {**package, "wheels": [1]}]})
    assert (found.name, found.file) == ("a", "a+b-1.tar.gz")
    for broken in ({**sdist, "hashes": {}}, {**sdist, "url": "file:///etc/passwd"}):
        with pytest.raises(LockError, match="no sha256 or no address"):
            list(sdists_in({"packages": [{**package, "sdist": broken}]}))


# --- locks and contexts --------------------------------------------------------------------------------------------


def source(**changes: object) -> Source:
    made = Source(
        name="my-lib",
        version=Version("1.2"),
        kind=SourceKind.LOCAL,
        origin="./mylib",
        archive="my-lib.tar",
        sha256=sha256(ARCHIVE).hexdigest(),
        backend="flit_core.buildapi",
        tools=(BuildTool(name="flit-core", version=Version("3.12"), sha256=DIGEST),),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def wheel(**changes: object) -> Wheel:
    made = Wheel(
        name="my-lib",
        version=Version("1.2"),
        file="my_lib-1.2-py3-none-any.whl",
        size=100,
        sha256="1" * 64,
        layer=Layer.STACK,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def lock_with(source: Source, wheel: Wheel) -> Lock:
    lock = parse_lock(PRESET.read_text(), source="x")
    stack = replace(lock.stack, extras=("my-lib @ ./mylib",))
    return replace(lock, stack=stack, wheels=(*lock.wheels, wheel), sources=(source,))


def test_a_lock_with_sources_is_read_again() -> None:
    lock = lock_with(source(), wheel())
    assert parse_lock(serialize.dumps(lock), source="x") == lock
    assert '"sources"' not in PRESET.read_text()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": Version("2")}, "has a source and no wheel"),
        ({"commit": "a" * 40}, "a commit is that of a repository"),
        ({"origin": "https://h/a.whl"}, "is not a path that begins with"),
        ({"archive": "my-lib.whl"}, "do not go together"),
        ({"backend": ""}, "is not the archive of its source"),
    ],
)
def test_sources_that_do_not_fit_are_reported(
    changes: dict[str, object], problem: str
) -> None:
    problems = list(find_problems(lock_with(source(**changes), wheel())))
    assert any(problem in line for line in problems), problems


def test_built_wheels_are_pure_and_in_the_top_layer() -> None:
    binary = wheel(file="my_lib-1.2-cp39-cp39-manylinux_2_28_x86_64.whl")
    problems = " ".join(find_problems(lock_with(source(), binary)))
    assert "has a source and is not pure Python" in problems
    low = wheel(layer=Layer.LIBRARIES)
    problems = " ".join(find_problems(lock_with(source(), low)))
    assert "has a source and is in the layer libraries" in problems


def test_a_context_builds_sources_without_network(tmp_path: Path) -> None:
    lock = lock_with(source(), wheel())
    context = render_context(lock, {"my-lib.tar": ARCHIVE})
    place = place_of(lock.stack)
    dockerfile = context.files[f"{place}/Dockerfile"]
    assert "RUN --network=none python3 /sources/build_sources.py wheels" in dockerfile
    assert dockerfile.count("from=sources,source=/wheels,target=/wheels") == 1
    stack_layer = context.files[f"{place}/layers/stack.txt"]
    assert (
        f"my-lib @ file:///wheels/my_lib-1.2-py3-none-any.whl --hash=sha256:{'1' * 64}"
        in stack_layer
    )
    [plan] = json.loads(context.files[f"{place}/sources/sources.json"])
    assert plan["wheel_sha256"] == "1" * 64
    tools = context.files[f"{place}/sources/my-lib.txt"]
    assert f"flit-core==3.12 --hash=sha256:{DIGEST}" in tools
    write_context(context, tmp_path)
    assert (tmp_path / place / "sources/my-lib.tar").read_bytes() == ARCHIVE
    assert list(differences(context, tmp_path)) == []
    (tmp_path / place / "sources/my-lib.tar").write_bytes(b"another")
    assert list(differences(context, tmp_path)) == [
        f"stale: {place}/sources/my-lib.tar"
    ]


def test_wheels_at_an_address_are_downloaded_by_the_image() -> None:
    address = "https://h/my_lib-1.2-py3-none-any.whl"
    file = "my_lib-1.2-py3-none-any.whl"
    at_address = source(
        kind=SourceKind.URL, origin=address, archive=file, sha256="1" * 64, backend=""
    )
    lock = lock_with(at_address, wheel())
    assert list(find_problems(lock)) == []
    assert f"my-lib @ {address} --hash=sha256:" in requirements_text(lock)
    context = render_context(lock)
    assert not any("/sources/" in name for name in context.names)
    assert "AS sources" not in context.files[f"{place_of(lock.stack)}/Dockerfile"]


def test_contexts_without_sources_are_as_before() -> None:
    lock = parse_lock(PRESET.read_text(), source="x")
    context = render_context(lock)
    assert context.archives == {}
    assert "build_sources" not in context.files[f"{place_of(lock.stack)}/Dockerfile"]


def test_digest_and_size_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x" * (1 << 21))
    assert file_digest(path) == (sha256(b"x" * (1 << 21)).hexdigest(), 1 << 21)
    with pytest.raises(UsageError, match="cannot be read"):
        file_digest(tmp_path / "missing")
