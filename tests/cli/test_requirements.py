"""`--requirements`, `requirements` in the settings, `init --from`: what a project has already."""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_server import IndexServer, serve
from json_documents import problems

from envbuilder.cli import requirement_files

from .conftest import Run


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve() as server:
        yield server


PLAIN = "torch==2.0.1+cu117\npeft==0.4.0\ncolorama; sys_platform == 'win32'\n"


def test_lines_of_a_file_are_answered(run: Run, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(PLAIN)
    answer = run("resolve", "-r", "requirements.txt")
    assert answer.out.startswith("cu117-torch2.0.1-")
    assert "peft==0.4.0" in answer.out
    assert answer.err.splitlines() == [
        "requirements.txt:1  torch==2.0.1+cu117                 became --torch 2.0.1 --cuda 11.7",
        "requirements.txt:2  peft==0.4.0                        taken",
        "requirements.txt:3  colorama; sys_platform == 'win32'  "
        'left out: sys_platform == "win32" does not hold on linux/amd64',
        "requirements.txt: 1 taken, 1 became options, 1 left out",
    ]
    document = json.loads(run("resolve", "-r", "requirements.txt", "--json").out)
    assert problems("resolve", document) == []
    assert document["requirements"][0] == {
        "file": "requirements.txt",
        "line": 1,
        "text": "torch==2.0.1+cu117",
        "outcome": "became",
        "detail": "--torch 2.0.1 --cuda 11.7",
    }


def test_the_command_line_wins_and_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(PLAIN)
    answer = run("resolve", "-r", "r.txt", "--torch", "2.1.0", "--cuda", "12.1")
    assert answer.out.startswith("cu121-torch2.1.0-")
    assert "note: r.txt:1 has torch 2.0.1; --torch 2.1.0 is used instead" in answer.err
    assert "note: r.txt:1 has cuda 11.7; --cuda 12.1 is used instead" in answer.err
    answer = run("resolve", "-r", "r.txt", "--cuda", "any", "--torch", "any")
    assert "torch==2.0.1+cu117" in answer.err
    assert "note:" not in answer.err


def test_a_refusal_names_the_line_and_a_command_that_works(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "r.txt").write_text("torch==2.1.0\nnumpy>=2\n")
    answer = run("resolve", "-r", "r.txt")
    assert answer.code == 4
    assert (
        "error: numpy>=2 (r.txt:2) cannot be installed with torch 2.1.0 for CUDA 12.1\n"
        "  torch 2.1.0 needs numpy<2\n"
        "  not from the command line: torch 2.1.0 (r.txt:1)\n" in answer.err
    )
    command = answer.err.split("`")[1]
    assert command == "envbuilder resolve --torch 2.3.0 -r r.txt"
    assert run(*command.split()[1:]).code == 0


def test_what_an_image_happens_to_have_yields(run: Run, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM nvidia/cuda:12.2.2-cudnn8-runtime-ubuntu22.04\n"
        "RUN pip install torch==2.1.0\n"
    )
    answer = run("resolve", "-r", "Dockerfile")
    assert answer.out.startswith("cu121-torch2.1.0-")
    assert "left out: no stack has it with the rest; torch brings" in answer.err


def test_system_packages_of_a_dockerfile(run: Run, tmp_path: Path) -> None:
    text = (
        "FROM python:3.10\nRUN apt-get install -y g++ {}\nRUN pip install peft==0.4\n"
    )
    (tmp_path / "Dockerfile").write_text(text.format("git"))
    answer = run("resolve", "-r", "Dockerfile", "--torch", "2.0.1")
    assert "system packages  g++, git" in answer.out
    (tmp_path / "Dockerfile").write_text(text.format("libgl1-mesa-glx"))
    answer = run("resolve", "-r", "Dockerfile", "--os", "trixie", "--python", "3.13")
    assert answer.code == 4
    assert "hint: write libgl1 in Dockerfile:2" in answer.err


def test_files_include_each_other_within_the_project(run: Run, tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/train.txt").write_text("-r ../base.txt\n-c pins.txt\na\n")
    (tmp_path / "requirements/pins.txt").write_text("numpy<2\n")
    (tmp_path / "base.txt").write_text("torch==2.0.1\n")
    answer = run("resolve", "-r", "requirements/train.txt")
    assert answer.code == 0, answer.err
    assert "requirements/pins.txt:1" in answer.err
    assert "base.txt:1" in answer.err
    (tmp_path / "base.txt").write_text("-r requirements/train.txt\n")
    answer = run("resolve", "-r", "requirements/train.txt")
    assert answer.code == 2
    assert "includes itself" in answer.err


def test_files_lead_nowhere_else(run: Run, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside.txt"
    outside.write_text("peft\n")
    (tmp_path / "link.txt").symlink_to(outside)
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    for line, reason in {
        f"-r {outside}": "leads out of",
        f"-r {'../' * 20}etc/passwd": "leads out of",
        "-r link.txt": "leads out of",
        "-r missing.txt": "missing.txt does not exist",
        "-r loop.txt": "loop.txt does not exist",
        "-r .": ". does not exist",
    }.items():
        (tmp_path / "r.txt").write_text(f"{line}\n")
        answer = run("resolve", "-r", "r.txt")
        assert answer.code == 2, line
        assert reason in answer.err, line
        assert "root:" not in answer.err
    # What the user names is read.
    assert run("resolve", "-r", str(outside)).code == 0
    (tmp_path / "envbuilder.toml").write_text('requirements = ["link.txt"]\n')
    assert "leads out of" in run("resolve").err
    (tmp_path / "envbuilder.toml").write_text(f'requirements = ["{outside}"]\n')
    assert "it must be in the folder of this file" in run("resolve").err


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("r.txt", b"a\0b", "it has a NUL"),
        ("r.txt", b"\xff\xfea", "not text in UTF-8 or UTF-16"),
        ("r.txt", b"caf\xe9", "not text in UTF-8 or UTF-16: byte 3"),
        ("r.txt", b"a b\n", "r.txt:1: 'a b' is not a package"),
        ("r.txt", b"x" * 3_000_000, "larger than 2 MB"),
        ("r.yml", b"a: [" * 20_000, "nested too deeply"),
        ("r.yml", b"a: &a [x]\nb: [*a, *a]\n", "aliases are not accepted"),
        ("uv.lock", b"a = " + b"[" * 50_000, "nested too deeply"),
        ("pyproject.toml", b"[project]\ndependencies = 1", "must be a list of strings"),
        ("setup.py", b"", "it is a program, which is not run"),
    ],
)
def test_a_file_that_is_none_is_one_clear_error(
    run: Run, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    answer = run("resolve", "-r", name)
    assert answer.code == 2
    assert reason in answer.err
    assert len(answer.err) < 600


def test_a_folder_a_fifo_and_a_missing_file(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "folder.txt").mkdir()
    for name, reason in {
        "fifo.txt": "is a FIFO",
        "folder.txt": "is a folder",
        "gone.txt": "gone.txt does not exist",
    }.items():
        answer = run("resolve", "-r", name)
        assert answer.code == 2
        assert reason in answer.err


def test_a_file_without_a_line_says_so(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("# nothing yet\n\n")
    answer = run("resolve", "-r", "r.txt", "--cuda", "11.7")
    assert answer.code == 0
    assert answer.err == "note: r.txt: no package and no version is in it\n"


def test_encodings_of_other_editors_are_read(run: Run, tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16"):
        content = "torch==2.0.1\r\npeft\r\n".encode(encoding)
        (tmp_path / "r.txt").write_bytes(content)
        assert "r.txt:2  peft" in run("resolve", "-r", "r.txt").err


def test_endless_includes_end(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        (tmp_path / f"{number}.txt").write_text(f"-r {number + 1}.txt\n")
    (tmp_path / "60.txt").write_text("a\n")
    assert "more than 50 files include" in run("resolve", "-r", "0.txt").err
    monkeypatch.setattr(requirement_files, "_MOST_STATEMENTS", 5)
    (tmp_path / "r.txt").write_text("a\n" * 9)
    assert "more than 5 packages" in run("resolve", "-r", "r.txt").err


def test_settings_name_files_relative_to_themselves(run: Run, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(PLAIN)
    (tmp_path / "envbuilder.toml").write_text('requirements = ["requirements.txt"]\n')
    assert run("resolve").out.startswith("cu117-torch2.0.1-")
    answer = run("build", "--dry-run")
    assert "cu117-torch2.0.1" in answer.out
    assert "requirements.txt: 1 taken" in answer.err


def test_files_next_to_the_settings_bound_or_are_contradicted(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nrequires-python = "<3.12"\ndependencies = ["torch<2.5"]\n'
    )
    settings = tmp_path / "envbuilder.toml"
    settings.write_text('cuda = "12.1"\n')
    answer = run("resolve")
    assert answer.out.startswith("cu121-torch2.4.1-py3.11")
    assert "torch<2.5" not in answer.out
    assert answer.err == ""
    settings.write_text('cuda = "12.1"\npython = "3.12"\n')
    assert (
        "pyproject.toml:3 requires Python <3.12; envbuilder.toml: python 3.12 is used instead"
        in run("resolve").err
    )
    settings.write_text('cuda = "13.0"\n')
    answer = run("resolve")
    assert answer.code == 0
    assert (
        "note: pyproject.toml:4 has torch<2.5, which does not go together with this request"
        in answer.err
    )
    settings.write_text('cuda = "13.0"\nrequirements = []\n')
    assert run("resolve").err == ""
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = 3\n")
    settings.write_text('cuda = "13.0"\n')
    answer = run("resolve")
    assert answer.code == 0
    assert "note: pyproject.toml: not compared with the request" in answer.err


def test_a_lock_has_decided_the_files(run: Run, tmp_path: Path) -> None:
    answer = run("build", "--lock", "x.lock", "-r", "r.txt")
    assert answer.code == 2
    assert "--requirements has no effect with --lock" in answer.err


@pytest.mark.slow
def test_init_refers_to_the_file(run: Run, tmp_path: Path, index: IndexServer) -> None:
    flags = (
        "--index-url",
        index.url,
        "--target",
        "devcontainer",
        "--base",
        "bootstrap",
    )
    (tmp_path / "requirements.txt").write_text("torch==2.0.1\ntqdm\n")
    answer = run("init", "--from", "requirements.txt", *flags, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert problems("init", document) == []
    assert [line["outcome"] for line in document["requirements"]] == ["became", "taken"]
    text = (tmp_path / "envbuilder.toml").read_text()
    settings = tomllib.loads(text)
    assert settings["requirements"] == ["requirements.txt"]
    assert "torch" not in settings
    assert "package" not in settings
    assert run("render", "--check").code == 0
    (tmp_path / "requirements.txt").write_text("torch==2.0.1\ntqdm\npeft\n")
    assert run("render", "--check").code != 0


def test_init_mentions_the_files_that_are_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envbuilder.pipeline.resolve_lockable", lambda *_: 1 / 0)
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    assert (
        "requirements.txt and Dockerfile found here: `envbuilder init --from requirements.txt`"
        in run("init", "--cuda", "11.7").err
    )


def test_an_index_of_a_file_is_asked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text(
        "-i http://user:secret@127.0.0.1:9/simple\ntorch==2.0.1\n"
    )
    answer = run("lock", "-r", "r.txt")
    assert answer.code == 6
    assert "127.0.0.1:9" in answer.err
    assert "secret" not in answer.err


def test_folders_of_a_file_are_packages(run: Run, tmp_path: Path) -> None:
    for folder in ("mylib", "sub/near"):
        path = tmp_path / folder
        path.mkdir(parents=True)
        name = path.name
        (path / "pyproject.toml").write_text(f'[project]\nname = "My_{name}"\n')
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "app"\n')
    (tmp_path / "r.txt").write_text(
        "-e ./mylib\nmylib/\n../elsewhere\n/etc\n-e .[train]\n-r sub/r.txt\n"
    )
    (tmp_path.parent / "elsewhere").mkdir(exist_ok=True)
    (tmp_path / "sub/r.txt").write_text("./near ; sys_platform == 'linux'\n")
    (tmp_path / "Dockerfile").write_text(
        "FROM python:3.10\nRUN pip install ./mylib ./not-here\n"
    )
    document = json.loads(
        run("resolve", "-r", "r.txt", "-r", "Dockerfile", "--json").out
    )
    assert document["stack"]["packages"][-2:] == [
        "my-mylib @ ./mylib",
        "my-near @ ./sub/near",
    ]
    details = {item["text"]: item["detail"] for item in document["requirements"]}
    assert details["../elsewhere"].startswith("it leads out of")
    assert details["/etc"].startswith("it leads out of")
    assert details["-e .[train]"].endswith("(`--requirements pyproject.toml`)")
    assert details["./not-here"] == "no such folder in the project"
    (tmp_path / "r.txt").write_text("a\n./gone\n")
    assert "r.txt:2: ./gone does not exist" in run("resolve", "-r", "r.txt").err


def test_init_refuses_a_package_that_the_repository_lacks(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "mylib"
    outside.mkdir()
    (outside / "pyproject.toml").write_text('[project]\nname = "mylib"\n')
    repository = tmp_path / "repository"
    (repository / ".git").mkdir(parents=True)
    monkeypatch.chdir(repository)
    answer = run("init", "--cuda", "11.7", "--package", "../mylib")
    assert answer.code == 2
    assert "mylib @ ../mylib is not in this folder" in answer.err
    assert not (repository / "envbuilder.toml").exists()
