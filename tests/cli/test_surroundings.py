"""The environment of a command and unusual files cause one clear error, never a bug."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from marks import few

from envbuilder.cli import session

from .conftest import Run

PRESET = "cu117-torch2.0.1-py3.9-debian11"
COMMANDS = [
    "--help",
    "resolve --cuda 9",
    "render --lock envbuilder.lock --target kubernetes",
    "init --lock envbuilder.lock",
    "catalog images",
    "doctor --gpu H100 --cuda 12.4",
    "accept nothing",
]


@pytest.fixture
def lock(root: Path, tmp_path: Path) -> Path:
    shutil.copy(root / "docker" / "images" / PRESET / "envbuilder.lock", tmp_path)
    return tmp_path / "envbuilder.lock"


def start(
    words: str, cwd: Path, stdout: object = subprocess.PIPE, **env: str
) -> "subprocess.CompletedProcess[bytes]":
    """A command in a separate process, with real streams and locale."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "envbuilder", *words.split()],
        cwd=cwd,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("words", few(COMMANDS))
def test_a_locale_that_is_ascii_is_enough(lock: Path, words: str) -> None:
    (lock.parent / "envbuilder.toml").write_text(
        '# “größer”\n[render]\ntargets = ["compose"]\n', encoding="utf-8"
    )
    bare = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    force = " --force" if words.startswith("init") else ""
    usual, ascii_only = (
        start(words + force, lock.parent, **env)
        for env in ({"LC_ALL": "C.UTF-8"}, bare)
    )
    assert ascii_only.returncode == usual.returncode, ascii_only.stderr
    assert ascii_only.returncode in {0, 4, 6, 8}
    assert ascii_only.stdout == usual.stdout, "the same answer"
    assert b"bug in envbuilder" not in ascii_only.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.slow
def test_a_rendered_file_has_the_same_bytes_in_any_locale(lock: Path) -> None:
    for folder, env in (
        ("one", {"LC_ALL": "C.UTF-8"}),
        ("two", {"LC_ALL": "C", "PYTHONUTF8": "0"}),
    ):
        done = start(
            f"render --lock envbuilder.lock --output {folder}",
            lock.parent,
            PYTHONCOERCECLOCALE="0",
            **env,
        )
        assert done.returncode == 0, done.stderr
    one, two = (contents(lock.parent / folder) for folder in ("one", "two"))
    assert one == two
    assert len(one) > 20


@pytest.mark.parametrize(
    "words",
    few(
        [
            "resolve --json",
            "--help",
            "resolve --cuda 11.7",
            "catalog images",
            "doctor --gpu H100",
        ],
        fast=0,
    ),
)
def test_full_output_disk_exits_with_2(tmp_path: Path, words: str) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = start(words, tmp_path, stdout=full)
    assert done.returncode == 2
    assert (
        b"error: the output cannot be written: No space left on device" in done.stderr
    )
    assert b"hint: free some space on its disk" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.slow
def test_unwritable_error_still_has_an_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        words = [sys.executable, "-m", "envbuilder", "resolve", "--cuda", "11.7"]
        assert (
            subprocess.run(
                words, cwd=tmp_path, stdout=full, stderr=full, check=False
            ).returncode
            == 2
        )


@pytest.mark.parametrize("unbuffered", few(["", "1"], fast=0))
@pytest.mark.parametrize(
    ("words", "code"),
    few(
        [
            ("catalog images", 0),
            ("resolve --cuda 11.7 --json", 0),
            ("doctor --gpu K80 --cuda 13", 8),
        ]
    ),
)
def test_a_reader_that_goes_away_changes_no_exit_code(
    tmp_path: Path, words: str, code: int, unbuffered: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = start(words, tmp_path, stdout=writing, PYTHONUNBUFFERED=unbuffered)
    os.close(writing)
    assert (done.returncode, done.stderr) == (code, b"")


@pytest.mark.parametrize(
    "words", few(["resolve --cuda 11.7", "--help", "doctor --gpu H100"], fast=0)
)
def test_a_closed_output_exits_with_2(tmp_path: Path, words: str) -> None:
    program = f"exec {sys.executable} -m envbuilder {words} >&-"
    done = subprocess.run(
        ["sh", "-c", program], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(
        b"error: the output cannot be written: standard output is closed\nhint: write it"
    )
    assert b"?" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        "resolve --cuda 11.7",
        "doctor --gpu H100 --cuda 12.4",
        "--help",
        "resolve --cuda 9",
    ],
)
def test_a_terminal_of_one_column_is_wide_enough(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("COLUMNS", "1")
    answer = run(*words.split())
    assert answer.code in {0, 4, 8}, answer.err


@pytest.mark.parametrize(
    "words",
    ["resolve --cuda 11.7", "lock --cuda 11.7 --check", "init", "doctor --gpu H100"],
)
def test_deleted_working_directory_is_reported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    answer = run(*words.split())
    monkeypatch.chdir(tmp_path)
    assert (answer.code, answer.err.splitlines()[0]) == (
        2,
        "error: the current folder no longer exists",
    )


@pytest.mark.parametrize(
    "words",
    [
        "build --lock {} --dry-run",
        "render --lock {}",
        "init --lock {}",
        "lock --check --output {}",
        "doctor --target {}",
        "--config {} resolve",
        "resolve --cuda 11.7 --ca-bundle {}",
    ],
)
@pytest.mark.parametrize(
    ("made", "kind"), [("fifo", "a FIFO"), ("/dev/zero", "a device"), ("/", "a folder")]
)
def test_special_files_are_refused_for_file_options(
    run: Run, tmp_path: Path, words: str, made: str, kind: str
) -> None:
    os.mkfifo(tmp_path / "fifo")
    answer = run(*words.format(made).split())
    if "--ca-bundle" in words:  # which `resolve` does not have
        assert answer.code == 2
    else:
        assert (answer.code, answer.err.splitlines()[0]) == (
            2,
            f"error: {made} is {kind}, not a file",
        )


@pytest.mark.parametrize(
    "name",
    [
        "envbuilder.toml",
        "compose.yaml",
        ".gitignore",
        "docker/images/x/envbuilder.lock",
    ],
)
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_repository_with_fifo_or_directory_as_file_is_refused(
    run: Run, lock: Path, name: str, make: object
) -> None:
    path = lock.parent / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)  # type: ignore[operator]
    answer = run("init", "--lock", "envbuilder.lock")
    assert answer.code == 2
    assert name in answer.err
    assert "not a file" in answer.err
    assert not (lock.parent / ".devcontainer").exists()


@pytest.mark.parametrize("name", ["facts/torch.json", "policy.toml"])
def test_a_catalog_of_fifos_is_refused_with_3(
    run: Run, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "own" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    answer = run("resolve", "--cuda", "11.7", "--catalog", "own")
    assert (answer.code, "is a FIFO, not a file" in answer.err) == (3, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("lock --check --output " + "x" * 300, "File name too long"),
        (
            "render --lock envbuilder.lock --output envbuilder.lock",
            "is a file, not a directory",
        ),
        (
            "render --lock envbuilder.lock --output envbuilder.lock/x",
            "cannot write envbuilder.lock/x",
        ),
        ("render --lock envbuilder.lock --output " + "x" * 300, "File name too long"),
    ],
)
def test_a_path_that_cannot_be_used_is_a_mistake(
    run: Run, lock: Path, words: str, said: str
) -> None:
    answer = run(*words.split())
    assert (answer.code, said in answer.err) == (2, True), answer.err


@pytest.mark.slow
def test_undecodable_path_is_printed_with_escapes(tmp_path: Path) -> None:
    done = start("render --output x --lock no-\udcff", tmp_path)
    assert (
        done.returncode,
        b"error: the lock no-\\udcff does not exist" in done.stderr,
    ) == (2, True), done.stderr


def test_a_path_with_nul_from_settings_is_a_mistake(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text('ca-bundle = "a\\u0000b"\n')
    assert run("lock", "--cuda", "11.7").code == 2
    (tmp_path / "envbuilder.toml").write_text('catalog = "a\\u0000b"\n')
    assert run("resolve", "--cuda", "11.7").code == 2


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_found_above_are_reported_once_on_stderr(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envbuilder.toml").write_text('cuda = "11.7"\n')
    assert "settings:" not in run("resolve", "--json").err
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    answer = run("resolve", "--json")
    assert answer.err.count(f"settings: {tmp_path}/envbuilder.toml\n") == 1
    assert json.loads(answer.out)["stack"]["cuda"].startswith("11.7")


def test_settings_are_named_by_option_or_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envbuilder.toml").write_text('cuda = "11.8"\n')
    (tmp_path / "other.toml").write_text('cuda = "11.7"\n')
    assert json.loads(run("resolve", "--json").out)["stack"]["cuda"].startswith("11.8")
    assert json.loads(run("--config", "other.toml", "resolve", "--json").out)["stack"][
        "cuda"
    ].startswith("11.7")
    monkeypatch.setenv("ENVBUILDER_CONFIG", "other.toml")
    assert json.loads(run("resolve", "--json").out)["stack"]["cuda"].startswith("11.7")
    assert run("--config", "none.toml", "resolve").code == 2


# --- links ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    few(
        [
            "docker",
            ".github",
            ".devcontainer",
            "docker/images",
            "compose.yaml",
            ".gitignore",
        ],
        fast=3,
    ),
)
def test_init_does_not_write_through_external_links(
    run: Run, lock: Path, name: str
) -> None:
    outside = lock.parent.parent / f"{lock.parent.name}-outside"
    outside.mkdir()
    (lock.parent / name).parent.mkdir(exist_ok=True)
    (lock.parent / name).symlink_to(outside)
    before = sorted(lock.parent.rglob("*"))
    for force in ((), ("--force",)):
        answer = run("init", "--lock", "envbuilder.lock", *force)
        assert answer.code == 2
        assert name in answer.err
    assert sorted(lock.parent.rglob("*")) == before
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("build", "render --lock envbuilder.lock"),
        ("slurm", "render --lock envbuilder.lock --target slurm"),
        ("kubernetes", "render --lock envbuilder.lock --target kubernetes"),
        ("build", "build --lock envbuilder.lock"),
        ("receipts", "build --lock envbuilder.lock"),
    ],
)
def test_no_command_writes_through_a_link_out_of_the_project(
    run: Run, lock: Path, link: str, words: str
) -> None:
    outside = lock.parent.parent / f"{lock.parent.name}-outside"
    outside.mkdir()
    (lock.parent / link).symlink_to(outside)
    answer = run(*words.split())
    assert (answer.code, f"{link} leads out of" in answer.err) == (2, True), answer.err
    assert list(outside.iterdir()) == []


def test_a_stack_in_settings_is_a_name_and_no_path(run: Run, lock: Path) -> None:
    (lock.parent / "envbuilder.toml").write_text(
        '[render]\ntargets = []\nstack = "../../../x"\n'
    )
    answer = run("render")
    assert (answer.code, "must be the name of a folder" in answer.err) == (2, True), (
        answer.err
    )


# --- a user without a home, a machine without a place for temporary files --------------------------------------------


def test_without_a_home_no_state_is_kept_in_the_project(
    run: Run, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a home directory `~` stays `~`, and a repository could contain a directory of that name."""
    for name in ("ENVBUILDER_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert session.receipt_store() is None
    assert run("build", "--lock", "envbuilder.lock", "--dry-run").code == 0
    monkeypatch.setenv("ENVBUILDER_STATE_DIR", "state")
    assert session.receipt_store() is None, "it would be another one in each folder"
    monkeypatch.setenv("ENVBUILDER_STATE_DIR", "/state")
    store = session.receipt_store()
    assert store is not None
    assert store.folder == Path("/state/receipts")


def test_full_temporary_directory_is_not_a_bug(
    run: Run, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    answer = run("lock", "--cuda", "11.7")
    assert answer.code == 2
    last = answer.err.splitlines()[-1]
    assert last == "error: system error: No usable temporary directory found"
