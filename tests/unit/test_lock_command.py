"""The command that uv is given, the files it reads, and the platform that wheels are picked for, all of it exactly."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from packaging.tags import Tag
from packaging.version import Version

from envbuilder import catalog
from envbuilder.errors import EngineError, LockError
from envbuilder.lock import target_platform
from envbuilder.lock.creation import create_lock
from envbuilder.lock.index_answer import ask_index, read_answer
from envbuilder.lock.target_platform import markers, wheel_tags
from envbuilder.lock.uv_compile import Uv, compile_argv
from envbuilder.lock.wheel_selection import select_wheels
from envbuilder.model import Stack
from envbuilder.processes import Completed
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

EMPTY = 'lock-version = "1.0"\ncreated-by = "test"\npackages = []\n'
MAC = {
    "implementation_name": "cpython", "implementation_version": "3.13.1", "os_name": "nt", "platform_machine": "arm64",
    "platform_python_implementation": "CPython", "platform_release": "24.0", "platform_system": "Darwin",
    "platform_version": "Darwin Kernel", "python_full_version": "3.13.1", "python_version": "3.13",
    "sys_platform": "darwin",
}  # fmt: skip


def stack(*packages: str, **changes: object) -> Stack:
    wanted = parse_request({"cuda": "11.7", "base": "bootstrap"}, packages)
    return replace(resolve(wanted, catalog.load()), **changes)  # type: ignore[arg-type]


def uv(index_url: str | None = None) -> Uv:
    return Uv(
        program="/opt/uv",
        run=lambda argv: Completed(returncode=1, stdout="", stderr=""),
        index_url=index_url,
    )


def on_glibc(minor: int) -> Stack:
    return replace(stack(), base=replace(stack().base, glibc=Version(f"2.{minor}")))


def test_the_command_is_exactly_this_one() -> None:
    wanted = stack(as_of=date(2025, 3, 20))
    assert compile_argv(uv(), wanted, Path("/f")) == [
        "/opt/uv", "pip", "compile", "/f/requirements.in", "--output-file", "/f/pylock.toml", "--format", "pylock.toml",
        "--no-config", "--no-header", "--quiet", "--python", sys.executable, "--python-version", "3.9",
        "--python-platform", "x86_64-manylinux_2_31", "--only-binary", ":all:",
        "--exclude-newer", "2025-03-21T00:00:00Z", "--excludes", "/f/excludes.txt",
        "--index-strategy", "first-index", "--keyring-provider", "disabled",
    ]  # fmt: skip


def test_packages_alone_are_requested_without_dependencies() -> None:
    whole = compile_argv(uv(), stack(), Path("/f"))
    alone = compile_argv(uv(), stack(), Path("/f"), alone=True)
    assert alone == ["--no-deps" if word == "--quiet" else word for word in whole]


def test_the_index_url_is_not_an_argument_of_uv() -> None:
    """It may contain a password; uv gets it from its environment."""
    argv = compile_argv(
        uv("https://me:secret@mirror.example/simple"), stack(), Path("/f")
    )
    assert argv == compile_argv(uv(), stack(), Path("/f"))


@pytest.mark.parametrize(
    ("glibc", "platform"), [(17, 17), (27, 17), (28, 28), (31, 31), (40, 40), (41, 40)]
)
def test_uv_gets_the_newest_supported_glibc(glibc: int, platform: int) -> None:
    argv = compile_argv(uv(), on_glibc(glibc), Path("/f"))
    assert argv[argv.index("--python-platform") + 1] == f"x86_64-manylinux_2_{platform}"


def test_uv_gets_the_platform_of_the_image() -> None:
    argv = compile_argv(uv(), stack(platform="linux/arm64"), Path("/f"))
    assert argv[argv.index("--python-platform") + 1] == "aarch64-manylinux_2_31"


class Recorder:
    """A uv that keeps what it was given to read."""

    def __init__(self) -> None:
        self.read: list[dict[str, str]] = []
        self.folders: list[Path] = []

    def run(self, argv: Sequence[str]) -> Completed:
        folder = Path(argv[3]).parent
        self.folders.append(folder)
        self.read.append({path.name: path.read_text() for path in folder.iterdir()})
        (folder / "pylock.toml").write_text(EMPTY)
        return Completed(returncode=0, stdout="", stderr="warning: `a==1` is yanked")


def test_uv_reads_requirements_and_excludes() -> None:
    recorder = Recorder()
    wanted = stack(excluded=("cmake", "lit"))
    answer = ask_index(Uv(program="uv", run=recorder.run), wanted, ["a==1", "b<2"])
    assert recorder.read == [
        {"requirements.in": "a==1\nb<2\n", "excludes.txt": "cmake\nlit\n"}
    ]
    assert answer.document == {
        "lock-version": "1.0",
        "created-by": "test",
        "packages": [],
    }
    assert answer.stderr == "warning: `a==1` is yanked"
    assert not recorder.folders[0].exists()


def test_all_requirements_are_resolved_together() -> None:
    recorder = Recorder()
    wanted = stack("rich", "einops==0.8")
    with pytest.raises(LockError):
        create_lock(
            wanted,
            uv=Uv(program="uv", run=recorder.run),
            catalog="x",
            command_for=" ".join,
        )
    assert recorder.read[0]["requirements.in"].splitlines() == [
        *wanted.requirements,
        "einops==0.8",
        "rich",
    ]


def failed(stderr: str) -> Completed:
    return Completed(returncode=2, stdout="", stderr=stderr)


@pytest.mark.parametrize(
    "stderr",
    [
        "error: Request failed after 3 retries",
        "  cause: error sending request for url",
        "  cause: dns error: failed to lookup address information",
        "  cause: invalid peer certificate: UnknownIssuer",
        "error: operation timed out",
    ],
)
def test_network_errors_of_uv_are_explained(stderr: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        read_answer(failed(f"{stderr}\nhint: set SSL_CERT_FILE"), tmp_path)
    assert caught.value.message.startswith("the package index cannot be reached: ")
    assert caught.value.problems == (
        stderr.strip().removeprefix("error: ").removeprefix("cause: "),
    )
    assert (
        "`--ca-bundle FILE`" in caught.value.hint
        or "the proxy (`HTTPS_PROXY`)" in caught.value.hint
    )


def test_a_cache_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    stderr = "error: Failed to initialize cache at `/proc/.cache/uv`\n  Caused by: failed to create directory"
    with pytest.raises(EngineError, match="its cache folder cannot be") as caught:
        read_answer(failed(stderr), tmp_path)
    assert "`/proc/.cache/uv`" in caught.value.problems[0]
    assert "UV_CACHE_DIR=" in caught.value.hint
    with pytest.raises(EngineError, match="the disk is full"):
        read_answer(failed(f"{stderr}: No space left on device"), tmp_path)


def test_package_conflicts_of_uv_are_explained(tmp_path: Path) -> None:
    stderr = "  × No solution found when resolving dependencies:\n  ╰─▶ Because a needs b\n\n  hint: try --prerelease"
    answer = read_answer(failed(stderr), tmp_path)
    assert answer.document is None
    assert answer.causes == [
        "No solution found when resolving dependencies:",
        "Because a needs b",
    ]


@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_markers_are_those_of_the_image_on_any_machine(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_platform, "default_environment", lambda: dict(MAC))
    found = markers(stack(platform=platform))
    assert found == {
        **MAC,
        "implementation_version": "3.9.0",
        "os_name": "posix",
        "platform_machine": {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}[
            platform
        ],
        "platform_system": "Linux",
        "python_full_version": "3.9.0",
        "python_version": "3.9",
        "sys_platform": "linux",
    }


def document(*tags: str) -> Mapping[str, object]:
    files = [
        {
            "name": f"a-1.0-{tag}.whl",
            "size": 1,
            "hashes": {"sha256": "0" * 64},
            "url": "https://mirror.example/a",
        }
        for tag in tags
    ]
    package = {"name": "a", "version": "1.0", "wheels": files}
    return {"lock-version": "1.0", "created-by": "test", "packages": [package]}


@pytest.mark.parametrize(
    ("tag", "taken"),
    [
        ("cp39-cp39-manylinux_2_31_x86_64", True),
        ("cp39-cp39-manylinux_2_32_x86_64", False),
        ("cp39-cp39-manylinux2014_x86_64", True),
        ("cp39-cp39-manylinux2010_x86_64", True),
        ("cp39-cp39-manylinux1_x86_64", True),
        ("cp39-cp39-manylinux_2_5_x86_64", True),
        ("cp39-cp39-linux_x86_64", True),
        ("cp39-cp39-manylinux2014_aarch64", False),
        ("cp38-cp38-manylinux2014_x86_64", False),
        ("cp310-cp310-manylinux2014_x86_64", False),
        ("cp38-abi3-manylinux2014_x86_64", True),
        ("cp310-abi3-manylinux2014_x86_64", False),
        ("cp39-none-any", True),
        ("py3-none-any", True),
        ("py39-none-any", True),
        ("py310-none-any", False),
        ("py3-none-manylinux2014_x86_64", True),
        ("py3-none-win_amd64", False),
        ("py3-none-macosx_11_0_arm64", False),
    ],
)
def test_which_wheels_the_image_can_install(tag: str, taken: bool) -> None:
    if taken:
        assert [wheel.file for wheel in select_wheels(document(tag), stack())] == [
            f"a-1.0-{tag}.whl"
        ]
    else:
        with pytest.raises(
            LockError, match="a locked package has no wheel for linux/amd64"
        ):
            select_wheels(document(tag), stack())


def test_the_newest_glibc_is_taken_before_older_ones() -> None:
    tags = [
        "cp39-cp39-manylinux2014_x86_64",
        "py3-none-any",
        "cp39-cp39-manylinux_2_28_x86_64",
        "cp39-cp39-linux_x86_64",
    ]
    found = []
    while tags:
        [wheel] = select_wheels(document(*tags), stack())
        found.append(wheel.file.removeprefix("a-1.0-").removesuffix(".whl"))
        tags.remove(found[-1])
    assert found == [
        "cp39-cp39-manylinux_2_28_x86_64", "cp39-cp39-manylinux2014_x86_64", "cp39-cp39-linux_x86_64", "py3-none-any"
    ]  # fmt: skip


def test_tags_go_from_the_newest_glibc_to_the_oldest() -> None:
    found = list(dict.fromkeys(tag.platform for tag in wheel_tags(on_glibc(18))))
    assert found == [
        "manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64",
        "manylinux_2_15_x86_64", "manylinux_2_14_x86_64", "manylinux_2_13_x86_64", "manylinux_2_12_x86_64",
        "manylinux2010_x86_64", "manylinux_2_11_x86_64", "manylinux_2_10_x86_64", "manylinux_2_9_x86_64",
        "manylinux_2_8_x86_64", "manylinux_2_7_x86_64", "manylinux_2_6_x86_64", "manylinux_2_5_x86_64",
        "manylinux1_x86_64", "linux_x86_64", "any",
    ]  # fmt: skip
    assert Tag("cp39", "none", "any") in wheel_tags(stack())
