"""Packages that are not on the index, with the real uv, git and builds, against the recorded index; no network."""

import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import cuda_package
import pytest
import wheelhouse
from index_server import RECORDED, Faults, IndexServer, serve

from cli.conftest import Answer, Run
from envbuilder import processes
from envbuilder.errors import LockError
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.sources.git_repository import described_version
from envbuilder.lock.sources.source_download import download
from envbuilder.model import Layer, Lock, SourceKind
from envbuilder.network import Network

from .test_lock import closed  # noqa: F401 - a fixture that every test here gets

pytestmark = pytest.mark.slow  # they start uv, git and builds

SDIST = "plain_sdist-1.5.tar.gz"
# A build backend in the package itself, so that no build tool is needed.
BACKEND = """
import base64, hashlib, zipfile
def build_wheel(folder, *_):
    {first}
    name = "{wheel}"
    stem = "-".join(name.split("-")[:2])
    metadata = "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{requires}"
    files = {{"{module}.py": open("{module}.py").read(), stem + ".dist-info/METADATA": metadata,
        stem + ".dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"}}
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(stem + ".dist-info/RECORD", "".join(f"{{path}},,\\n" for path in files))
    return name
"""
PROJECT = """[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "{name}"
version = "{version}"
"""


def package_files(
    name: str = "my-lib",
    version: str = "1.2",
    *,
    first: str = "pass",
    requires: str = "",
    wheel: str = "",
    code: str = "x = 1\n",
) -> dict[str, str]:
    """The files of a package: `first` is a statement that its build starts with."""
    module = name.replace("-", "_")
    backend = BACKEND.format(
        first=first,
        wheel=wheel or f"{module}-{version}-py3-none-any.whl",
        name=name,
        version=version,
        requires=requires,
        module=module,
    )
    pyproject = PROJECT.format(name=name, version=version)
    return {"pyproject.toml": pyproject, "backend.py": backend, f"{module}.py": code}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def git(folder: Path, *words: str) -> str:
    argv = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    done = subprocess.run([*argv, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "source-cache"
    monkeypatch.setenv("ENVBUILDER_CACHE_DIR", str(folder))
    return folder


@pytest.fixture
def index_folder(tmp_path: Path) -> Path:
    """The recorded index, and a project that has a source package alone."""
    folder = tmp_path / "index"
    folder.mkdir()
    for path in RECORDED.glob("*.json"):
        (folder / path.name).symlink_to(path)
    return folder


def add_sdist(folder: Path, content: bytes) -> None:
    row = {
        "filename": SDIST,
        "hashes": {"sha256": sha256(content).hexdigest()},
        "metadata": "x",
        "requires-python": None,
        "size": len(content),
        "upload-time": "2024-01-01T00:00:00Z",
        "yanked": False,
    }
    document = {"files": [row], "metadata": {"x": []}, "name": "plain-sdist"}
    (folder / "plain-sdist.json").write_text(json.dumps(document))


def sdist(**changes: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in package_files("plain-sdist", "1.5", **changes).items():
            member = tarfile.TarInfo(f"plain_sdist-1.5/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


class Locks:
    """Runs commands for one request, against one index."""

    def __init__(self, run: Run, index: IndexServer, folder: Path) -> None:
        self._run = run
        self.url = index.url
        self.file = folder / "envbuilder.lock"

    def run(self, *words: str) -> Answer:
        request = ["--cuda", "11.7", "--base", "bootstrap"]
        return self._run("lock", *request, "--index-url", self.url, *words)

    def make(self, *packages: str) -> Lock:
        words = [word for package in packages for word in ("--package", package)]
        answer = self.run(*words)
        assert answer.code == 0, answer.err
        return parse_lock(self.file.read_text(), source="x")

    def refuse(self, *packages: str) -> str:
        words = [word for package in packages for word in ("--package", package)]
        answer = self.run(*words)
        assert answer.code not in (0, 1), answer.err
        return answer.err


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def content() -> bytes:
    return sdist()


@pytest.fixture
def locks(
    run: Run, tmp_path: Path, index_folder: Path, faults: Faults, content: bytes
) -> Iterator[Locks]:
    add_sdist(index_folder, content)
    demo = wheelhouse.make_wheel(100)
    wheelhouse.record(index_folder, demo)
    files = {SDIST: content, wheelhouse.NAME: demo}
    with serve(faults, folder=index_folder, wheels=files) as server:
        yield Locks(run, server, tmp_path)


def test_a_folder_is_locked_and_rendered_again_from_its_lock(
    locks: Locks, run: Run, tmp_path: Path, cache: Path
) -> None:
    folder = write(
        tmp_path / "mylib", package_files(requires="Requires-Dist: evaluate\\n")
    )
    lock = locks.make("./mylib")
    [source] = lock.sources
    assert (source.name, source.kind, source.origin) == (
        "my-lib",
        SourceKind.LOCAL,
        "./mylib",
    )
    assert lock.stack.extras == ("my-lib @ ./mylib",)
    [wheel] = [wheel for wheel in lock.wheels if wheel.name == "my-lib"]
    assert (wheel.file, wheel.layer) == ("my_lib-1.2-py3-none-any.whl", Layer.STACK)
    assert locks.make("./mylib") == lock
    assert locks.run("--check", "--package", "./mylib").code == 0

    shutil.rmtree(cache)
    render = ("render", "--lock", str(locks.file), "--output", "context")
    assert run(*render).code == 0
    place = tmp_path / "context/images" / lock.stack.name / "sources"
    assert sha256((place / "my-lib.tar").read_bytes()).hexdigest() == source.sha256
    assert run(*render, "--check").code == 0

    (folder / "my_lib.py").write_text("x = 2\n")
    answer = locks.run("--check", "--package", "./mylib")
    assert (answer.code, "./mylib has changed" in answer.err) == (5, True)
    # The archive is in the context, so that it can still be built.
    shutil.rmtree(cache)
    answer = run(*render)
    assert (answer.code, "what was locked is built" in answer.err) == (0, True)
    shutil.rmtree(tmp_path / "context")
    answer = run(*render)
    assert (answer.code, "has changed since my-lib 1.2 was locked" in answer.err) == (
        2,
        True,
    )
    shutil.rmtree(folder)
    answer = run(*render)
    assert "the source of my-lib 1.2 is not available" in answer.err


def test_a_repository_is_locked_by_its_commit(
    locks: Locks, run: Run, tmp_path: Path, cache: Path
) -> None:
    repository = write(tmp_path / "repository", package_files())
    git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / ".gitattributes").write_text("*.py text eol=crlf export-ignore\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=a")
    git(repository, "tag", "v1.2")
    commit = git(repository, "rev-parse", "HEAD")
    url = f"git+file://{repository}"
    answer = locks.run("--package", f"my-lib @ {url}@v1.2")
    assert f"v1.2 of file://{repository} is commit {commit}" in answer.err
    lock = parse_lock(locks.file.read_text(), source="x")
    [source] = lock.sources
    assert (source.kind, source.commit) == (SourceKind.GIT, commit)
    again = locks.make(f"my-lib @ {url}@{commit}")
    assert again.sources == lock.sources
    assert "no tag and no branch 'v9'" in locks.refuse(f"my-lib @ {url}@v9")
    assert "has no commit" in locks.refuse(f"my-lib @ {url}@{'a' * 40}")
    error = locks.refuse(f"other @ {url}@{commit}")
    assert "is called my-lib, not other" in error
    assert f"`--package 'my-lib @ {url}@{commit}'`" in error

    shutil.rmtree(repository)
    answer = locks.run("--check", "--package", f"my-lib @ {url}@{commit}")
    assert (answer.code, "cannot be read by git" in answer.err) == (5, True)
    shutil.rmtree(cache)
    answer = run("render", "--lock", str(locks.file))
    assert "the source of my-lib 1.2 is not available" in answer.err


def test_the_version_of_a_commit_follows_from_its_tag(tmp_path: Path) -> None:
    repository = write(tmp_path / "repository", {"a": ""})
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=a")
    assert described_version(repository, "HEAD", processes.run) == ""
    git(repository, "tag", "latest")
    assert described_version(repository, "HEAD", processes.run) == ""
    git(repository, "tag", "lib-v1.2rc1")
    assert described_version(repository, "HEAD", processes.run) == "1.2rc1"
    git(repository, "commit", "--quiet", "--allow-empty", "--message=b")
    digits = git(repository, "rev-parse", "--short", "HEAD")
    version = described_version(repository, "HEAD", processes.run)
    assert version == f"1.2.post1+g{digits}"


def test_a_dependency_without_a_wheel_is_built(
    locks: Locks, run: Run, tmp_path: Path, faults: Faults, cache: Path
) -> None:
    write(
        tmp_path / "mylib", package_files(requires="Requires-Dist: plain-sdist>=1\\n")
    )
    answer = locks.run("--package", "./mylib")
    assert f"plain-sdist 1.5 has no wheel: taking its source package, {SDIST}" in (
        answer.err
    )
    lock = parse_lock(locks.file.read_text(), source="x")
    assert [source.kind for source in lock.sources] == ["local", "sdist"]
    assert locks.run("--check", "--package", "./mylib").code == 0
    shutil.rmtree(cache)
    render = ("render", "--lock", str(locks.file), "--index-url", locks.url)
    assert run(*render).code == 0
    assert (tmp_path / "build/images" / lock.stack.name / "sources" / SDIST).is_file()
    faults.yanked[SDIST] = "broken"
    answer = locks.run("--check", "--package", "./mylib")
    assert "plain-sdist 1.5: was yanked: broken" in answer.err
    faults.yanked.clear()
    faults.removed.add(SDIST)
    answer = locks.run("--check", "--package", "./mylib")
    assert f"{SDIST} is no longer on the index" in answer.err


def test_packages_of_the_settings_are_built_only_if_allowed(
    locks: Locks, tmp_path: Path, cache: Path
) -> None:
    """Somebody else may have written the settings: a build runs a program of the package."""
    ran = tmp_path / "ran"
    first = f"open({str(ran)!r}, 'w')"
    write(tmp_path / "mylib", package_files(first=first))
    settings = tmp_path / "envbuilder.toml"
    settings.write_text('package = ["./mylib"]\n')
    error = locks.refuse()
    assert "its source package is not built: the command line does not request" in error
    settings.write_text('package = ["plain-sdist"]\n')
    error = locks.refuse()
    assert "its source package is not built: the command line does not request" in error
    settings.write_text('build-sources = "all"\n')
    assert "unknown key 'build-sources'" in locks.refuse()
    assert not ran.exists()
    settings.write_text('package = ["./mylib"]\n')
    assert locks.run("--build-sources", "all").code == 0
    assert ran.exists()
    assert locks.run("--check").code == 0
    shutil.rmtree(cache)
    answer = locks.run("--check")
    assert (answer.code, "what my-lib depends on is not compared" in answer.err) == (
        0,
        True,
    )


def add_cuda_package(folder: Path, content: bytes) -> None:
    """A project of which the index has a source package alone, and that compiles CUDA code."""
    row = {
        "filename": cuda_package.ARCHIVE,
        "hashes": {"sha256": sha256(content).hexdigest()},
        "metadata": "x",
        "requires-python": None,
        "size": len(content),
        "upload-time": "2023-06-01T00:00:00Z",
        "yanked": False,
    }
    document = {"files": [row], "metadata": {"x": []}, "name": cuda_package.NAME}
    (folder / "line-ops.json").write_text(json.dumps(document))


def add_tool(folder: Path, name: str) -> None:
    """A build tool of which nothing but the page is read."""
    row = {
        "filename": f"{name}-1.0-py3-none-any.whl",
        "hashes": {"sha256": "7" * 64},
        "metadata": "x",
        "requires-python": None,
        "size": 10,
        "upload-time": "2023-06-01T00:00:00Z",
        "yanked": False,
    }
    document = {"files": [row], "metadata": {"x": []}, "name": name}
    path = folder / f"{name}.json"
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(document))


def test_a_package_that_compiles_is_locked_if_that_is_permitted(
    run: Run, tmp_path: Path, index_folder: Path, faults: Faults, cache: Path
) -> None:
    content = cuda_package.source_package()
    add_cuda_package(index_folder, content)
    add_tool(index_folder, "ninja")
    files = {cuda_package.ARCHIVE: content}
    with serve(faults, folder=index_folder, wheels=files) as server:
        locks = Locks(run, server, tmp_path)
        error = locks.refuse("line-ops")
        assert "compiles: it contains CUDA code (line_ops/line.cu)" in error
        assert "`--compile line-ops` compiles it while the image is built" in error
        permitted = ("--package", "line-ops", "--compile", "Line_Ops", "--gpu", "8.6")
        assert "is not a normalized" in locks.run("--compile", "a b").err
        answer = locks.run(*permitted)
        assert answer.code == 0, answer.err
        lock = parse_lock(locks.file.read_text(), source="x")
        [source] = lock.compiled
        assert (source.name, str(source.version), source.kind) == (
            "line-ops",
            "1.0",
            SourceKind.SDIST,
        )
        assert "line-ops" not in {wheel.name for wheel in lock.wheels}
        assert lock.toolchain
        assert lock.toolchain.capabilities == ("8.6",)
        assert lock.toolchain.toolkit == "nvidia/cuda:11.7.1-devel-ubuntu22.04"
        tools = {tool.name for tool in lock.toolchain.tools}
        assert {"ninja", "numpy", "setuptools", "wheel"} <= tools
        assert not tools & {"torch", "transformers", "nvidia-cuda-runtime-cu11"}
        assert locks.run("--check", "--package", "line-ops").code == 0
        shutil.rmtree(cache)
        render = ("render", "--lock", str(locks.file), "--index-url", server.url)
        assert run(*render).code == 0
        place = tmp_path / "build/images" / lock.stack.name / "compiled/line-ops"
        assert (place / cuda_package.ARCHIVE).read_bytes() == content
        faults.removed.add(cuda_package.ARCHIVE)
        answer = locks.run("--check", "--package", "line-ops")
        assert f"{cuda_package.ARCHIVE} is no longer on the index" in answer.err


def add_wheel(folder: Path, version: str, day: str, python: str = "") -> None:
    """Another release of the project that has a source package: a wheel, of which nothing but metadata is read."""
    path = folder / "plain-sdist.json"
    document = json.loads(path.read_text())
    row = {
        "filename": f"plain_sdist-{version}-py3-none-any.whl",
        "hashes": {"sha256": "a" * 64},
        "metadata": version,
        "requires-python": python or None,
        "size": 1,
        "upload-time": f"{day}T00:00:00Z",
        "yanked": False,
    }
    document["files"].append(row)
    lines = [f"Requires-Python: {python}"] if python else []
    document["metadata"][version] = lines
    path.write_text(json.dumps(document))


def test_an_old_wheel_does_not_replace_the_newest_release(
    locks: Locks, index_folder: Path
) -> None:
    add_wheel(index_folder, "0.3", "2020-01-01")
    add_wheel(index_folder, "1.6b1", "2024-02-01")
    lock = locks.make("plain-sdist")
    [wheel] = [wheel for wheel in lock.wheels if wheel.name == "plain-sdist"]
    assert str(wheel.version) == "1.5"
    assert locks.run("--check", "--package", "plain-sdist").code == 0
    answer = locks.run("--package", "plain-sdist", "--build-sources", "named")
    assert answer.code == 5
    assert (
        "plain-sdist 0.3 (2020-01-01) is the newest release that has a wheel"
        in answer.err
    )
    [wheel] = [
        wheel
        for wheel in locks.make("plain-sdist>=1.6b1").wheels
        if wheel.name == "plain-sdist"
    ]
    assert str(wheel.version) == "1.6b1"


def test_an_upper_bound_of_python_finds_another_python(
    locks: Locks, index_folder: Path
) -> None:
    add_wheel(index_folder, "1.7", "2024-03-01", "<3.10,>=3.8")
    answer = locks.run("--package", "plain-sdist", "--python", "3.10", "--base", "auto")
    assert answer.code == 4
    assert (
        "plain-sdist 1.7 needs Python <3.10,>=3.8, and the stack has Python 3.10"
        in answer.err
    )
    assert "--python 3.9 " in answer.err


def test_builds_can_be_forbidden(locks: Locks, tmp_path: Path) -> None:
    write(tmp_path / "mylib", package_files())
    answer = locks.run("--package", "plain-sdist", "--build-sources", "named")
    assert "plain-sdist 1.5 has no wheel, and its source package is not built" in (
        answer.err
    )
    answer = locks.run("--package", "./mylib", "--build-sources", "none")
    assert "--build-sources is none" in answer.err
    assert locks.make("plain-sdist").sources[0].kind is SourceKind.SDIST


def test_wheels_at_an_address_and_local_ones_need_no_build(
    locks: Locks, tmp_path: Path
) -> None:
    address = locks.url.replace("/simple/", wheelhouse.PATH)
    [source] = locks.make(address).sources
    assert (source.kind, source.origin) == (SourceKind.URL, address)
    (tmp_path / wheelhouse.NAME).write_bytes(wheelhouse.make_wheel(100))
    [local] = locks.make(f"./{wheelhouse.NAME}").sources
    assert (local.kind, local.is_built) == (SourceKind.LOCAL, False)
    assert local.sha256 == source.sha256
    with pytest.raises(LockError, match="is larger than"):
        download(address, tmp_path / "x", Network(), most=10)
    missing = address.replace("demo-1.0", "demo-2.0")
    assert "a file is not on the server (404)" in locks.refuse(missing)


HOSTILE = {
    "it wants the network while it is built": {
        "first": "import urllib.request as r; r.urlopen('http://127.0.0.1:9/')"
    },
    "is built to another wheel each time": {
        "first": "import random; open('my_lib.py', 'w').write(str(random.random()))"
    },
    "which is not pure Python": {
        "wheel": "my_lib-1.2-cp39-cp39-manylinux_2_28_x86_64.whl"
    },
    "its build made 0 wheels": {"first": "return 'x'"},
    "it compiles, which is not possible here": {
        "first": "import os; raise SystemExit('command %r failed' % os.environ['CC'])"
    },
    "it needs torch while it is built": {"first": "import torch"},
}


@pytest.mark.parametrize("reason", sorted(HOSTILE))
def test_builds_that_cannot_be_locked_say_why(
    locks: Locks, tmp_path: Path, reason: str
) -> None:
    write(tmp_path / "mylib", package_files(**HOSTILE[reason]))
    error = locks.refuse("./mylib")
    assert reason in error
    assert not locks.file.exists()


def test_a_package_that_clashes_is_named_with_its_place(
    locks: Locks, tmp_path: Path
) -> None:
    write(tmp_path / "mylib", package_files(requires="Requires-Dist: torch==9.9\\n"))
    error = locks.refuse("./mylib", "evaluate")
    assert "my-lib @ ./mylib cannot be installed with torch 2.0.1" in error
    assert "--package evaluate" in error


def test_a_package_has_one_place_and_torch_has_none(
    locks: Locks, tmp_path: Path
) -> None:
    write(tmp_path / "mylib", package_files())
    repository = f"my-lib @ git+file://{tmp_path}/mylib"
    assert "my-lib is requested from two places" in locks.refuse("./mylib", repository)
    assert len(locks.make("./mylib", "./mylib[x]").sources) == 1
    torch = "https://host/torch-2.0.1-py3-none-any.whl"
    assert "the stack decides torch" in locks.refuse(torch)


def test_settings_name_a_folder_of_the_project(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "mylib", package_files())
    (tmp_path / "envbuilder.toml").write_text('package = ["./mylib"]\n')
    answer = run("resolve", "--cuda", "11.7", "--json")
    assert "my-lib @ ./mylib" in json.loads(answer.out)["stack"]["packages"]
    (tmp_path / "below").mkdir()
    answer = run("resolve", "--cuda", "11.7", "--package", "./none")
    assert (answer.code, "is not a folder" in answer.err) == (2, True)


def test_source_packages_are_loaded_with_the_login_of_the_index(
    run: Run, tmp_path: Path, index_folder: Path, content: bytes, cache: Path
) -> None:
    add_sdist(index_folder, content)
    with serve(
        folder=index_folder, wheels={SDIST: content}, login="me:kestrel"
    ) as server:
        url = server.url.replace("http://", "http://me:kestrel@")
        request = ["--cuda", "11.7", "--base", "bootstrap", "--index-url", url]
        answer = run("lock", *request, "--package", "plain-sdist")
    assert answer.code == 0, answer.err
    texts = [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    assert len(texts) > 2
    assert not any(b"kestrel" in text for text in texts)
    lock = (tmp_path / "envbuilder.lock").read_text()
    assert "kestrel" not in lock + answer.err
