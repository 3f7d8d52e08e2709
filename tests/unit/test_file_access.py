"""Files of other users are read in one way: without blocking, with a size limit, with one clear error."""

import os
import platform
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from envbuilder import files
from envbuilder.errors import CatalogError, UsageError


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def linked_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def linked_to_itself(path: Path) -> None:
    path.symlink_to(path)


def too_large(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(files.LARGEST + 1)  # a hole: it takes no space


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (fifo, "is a FIFO, not a file"),
        (a_socket, "is a socket, not a file"),
        (linked_device, "is a device, not a file"),
        (Path.mkdir, "is a folder, not a file"),
        (linked_to_itself, "cannot be read: Too many levels of symbolic links"),
        (too_large, "is larger than 17 MB"),
        (
            lambda path: path.write_bytes(b"caf\xe9"),
            "is not UTF-8 text: byte 3 is invalid",
        ),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_not_text_is_refused(
    tmp_path: Path,
    make: Callable[[Path], object],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    path = Path("thing")
    make(path)
    with pytest.raises(UsageError) as caught:
        files.read_text(path)
    assert caught.value.message.startswith("thing ")
    assert said in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\0b", "is not a file name"),
        ("a" * 300, "cannot be read: File name too long"),
        ("\ud800", "is not a file name"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        files.read_bytes(Path(name))
    assert not files.is_file(Path(name))
    assert not files.is_folder(Path(name))
    assert not files.exists(Path(name))


def test_unreadable_file_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.touch()

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(UsageError, match="secret cannot be read: Permission denied"):
        files.read_bytes(path)


def test_a_file_that_became_a_fifo_meanwhile_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    path.touch()
    opened = os.open

    def swap(name: Path, flags: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(name, flags)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(UsageError, match="is a FIFO"):
        files.read_bytes(path)


def test_the_error_has_the_class_of_its_caller(tmp_path: Path) -> None:
    with pytest.raises(CatalogError) as caught:
        files.read_text(tmp_path / "torch.json", error=CatalogError, hint="mend it")
    assert (caught.value.exit_code, caught.value.hint) == (3, "mend it")


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes("ü\r\n".encode())
    (tmp_path / "link").symlink_to("there")
    assert files.read_text(tmp_path / "link") == "ü\r\n"
    assert files.read_owned(tmp_path / "link")[1] == os.getuid()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cu117-torch2.0.1-py3.9-debian11", "cu117-torch2.0.1-py3.9-debian11"),
        ("../../etc/passwd", "etc-passwd"),
        ("/etc/cron.d/x", "etc-cron.d-x"),
        ("..", "image"),
        ("", "image"),
        (".hidden", "hidden"),
        ("--option", "option"),
        ("a\0b\nc\x1b[2J", "a-b-c-2J"),
        ("x" * 5000, "x" * 100),
        ("ü*?[", "image"),
    ],
)
def test_text_from_outside_becomes_one_plain_name(text: str, name: str) -> None:
    assert files.safe_name(text) == name


def test_sudo_trusts_the_files_of_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert files.own_users("1000") == {0, 1000}
    assert files.own_users("x") == files.own_users(None) == {0}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert files.own_users("0") == {1000}, (
        "SUDO_UID is believed from root alone: anybody can set it"
    )


# --- links ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    return folder


@pytest.mark.parametrize(
    "target", ["../outside", "../outside/new", "/", "../project-2"]
)
@pytest.mark.parametrize("name", ["docker/images/x/Dockerfile", "docker"])
def test_a_link_out_of_the_project_is_refused(
    project: Path, target: str, name: str
) -> None:
    (project / "docker").symlink_to(target)
    with pytest.raises(UsageError, match="docker leads out of") as caught:
        files.refuse_links(project, "compose.yaml", name)
    assert "rm " in caught.value.hint


def test_links_out_of_the_project_and_circular_links_are_refused(project: Path) -> None:
    (project / "compose.yaml").symlink_to("../outside/compose.yaml")
    (project / "docker").symlink_to("docker")
    for name in ("compose.yaml", "docker/x"):
        with pytest.raises(UsageError):
            files.refuse_links(project, name)


def test_links_within_the_project_are_followed(project: Path) -> None:
    (project / "data").mkdir()
    (project / "docker").symlink_to("data")
    files.refuse_links(project, "docker/images/x")
    (project.parent / "home").symlink_to(project)
    files.refuse_links(project.parent / "home", "docker/images/x", "build")


# --- writing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["taken/file", "a\0b", "x" * 300])
def test_an_unwritable_path_is_a_usage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(UsageError) as caught:
        files.write_file(tmp_path / name, "text")
    assert caught.value.exit_code == 2
    assert "your permissions there" in caught.value.hint


def test_full_disk_keeps_the_existing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "chmod", full)
    with pytest.raises(UsageError, match="No space left on device"):
        files.write_file(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(
    not Path("/proc/sys/kernel/hostname").exists(), reason="only Linux has it"
)
def test_a_setting_of_the_kernel_is_read() -> None:
    """The kernel refuses to read one of these into as much room as the largest lock would need."""
    assert (
        files.read_bytes(Path("/proc/sys/kernel/hostname")).decode().strip()
        == platform.node()
    )


def test_a_file_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 200_000)
    assert files.read_bytes(file, limit=200_000) == b"x" * 200_000
    with pytest.raises(UsageError, match="is larger than"):
        files.read_bytes(file, limit=199_999)
