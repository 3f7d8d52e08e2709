"""A full disk, and one that is read-only: a sentence that says so, a documented code, and nothing is lost."""

import os
from pathlib import Path

import pytest
from index_server import serve
from small_disk import CAN_MOUNT, run
from standin.programs import Programs

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu126-torch2.7.1-py3.13-debian13/envbuilder.lock"
)
needs_mounts = pytest.mark.skipif(
    not CAN_MOUNT, reason="needs root, to have a small disk of its own"
)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("project", "tmp", "cache")}
    for folder in made.values():
        folder.mkdir()
    return made


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize(
    ("place", "settings", "code", "said"),
    [
        (
            "project",
            {"FILL": "1"},
            2,
            "cannot write envbuilder.lock: No space left on device",
        ),
        (
            "project",
            {"READ_ONLY": "1"},
            2,
            "cannot write envbuilder.lock: Read-only file system",
        ),
        ("tmp", {"SIZE": "4k"}, 2, "No space left on device"),
        ("cache", {"SIZE": "400k"}, 6, "uv cannot resolve: the disk is full"),
    ],
)
def test_a_lock_keeps_the_old_file(
    folders: dict[str, Path], place: str, settings: dict[str, str], code: int, said: str
) -> None:
    with serve() as index:
        words = (
            "lock",
            "--cuda",
            "12.6",
            "--os",
            "debian13",
            "--base",
            "bootstrap",
            "--index-url",
            index.url,
        )
        done = run(folders, place, *words, **settings)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stdout == "old"
    assert not list(folders["tmp"].iterdir())


@pytest.mark.slow
@needs_mounts
@pytest.mark.parametrize(
    "command", [("render", "--output", "docker"), ("init",)], ids=["render", "init"]
)
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SIZE": "100k"}, " MB are free in "),
        ({"READ_ONLY": "1"}, "/project cannot be written; nothing was written"),
    ],
    ids=["full", "read-only"],
)
def test_full_disk_is_reported_and_project_files_survive(
    folders: dict[str, Path],
    command: tuple[str, ...],
    settings: dict[str, str],
    said: str,
) -> None:
    done = run(folders, "project", *command, "--lock", str(PRESET), **settings)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stdout == "old"


def test_a_log_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(tmp_path / "bin")
    programs.builds("sha256:1")
    monkeypatch.setenv("PATH", f"{programs.folder}:/usr/bin:/bin")
    from envbuilder.engine import build_process
    from envbuilder.engine.buildx import BuildOptions
    from envbuilder.errors import UsageError
    from envbuilder.network import Network

    class Full(type(tmp_path)):  # type: ignore[misc]
        def open(self, *words: object, **options: object) -> object:
            return Path("/dev/full").open("w", encoding="utf-8")

    log = Full(tmp_path / "logs" / "x.log")
    with pytest.raises(
        UsageError, match=r"cannot write .*/logs/x.log: No space left on device"
    ):
        build_process.build(
            tmp_path,
            dockerfile="Dockerfile",
            log=log,
            options=BuildOptions(),
            network=Network(),
            environ=dict(os.environ),
            on_change=lambda progress: None,
        )
