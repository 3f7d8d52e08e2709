"""`envbuilder init` and the `render` that keeps what it made."""

import json
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_server import serve
from marks import few

from .conftest import Run

ROOT = Path(__file__).parents[2]
NAME = "cu117-torch2.0.1-py3.9-debian11"
LOCK = str(ROOT / "docker/images" / NAME / "envbuilder.lock")
TARGETS = ("--target", "devcontainer", "--target", "workflow")


def written(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_init_writes_everything_and_names_the_next_steps(
    run: Run, tmp_path: Path
) -> None:
    answer = run("init", "--lock", LOCK, *TARGETS)
    assert answer.code == 0, answer.err
    assert answer.out == ""
    assert {name for name in written(tmp_path) if not name.startswith("docker/")} == {
        ".devcontainer/Dockerfile", ".devcontainer/check", ".devcontainer/devcontainer.json",
        ".github/workflows/ci.yml", ".gitignore", "envbuilder.toml",
    }  # fmt: skip
    assert (
        tmp_path / ".gitignore"
    ).read_text() == "/runs/\n/build/\n/receipts/\n/.env\n"
    assert (tmp_path / f"docker/images/{NAME}/envbuilder.lock").read_text() == Path(
        LOCK
    ).read_text()
    assert (tmp_path / ".devcontainer/check").stat().st_mode & 0o111
    assert "wrote envbuilder.toml" in answer.err
    assert answer.err.endswith(
        f"next: `envbuilder build --lock docker/images/{NAME}/envbuilder.lock`, then `envbuilder render --check`\n"
    )
    assert run("render", "--check").code == 0


def test_an_existing_gitignore_stays_and_gaps_are_reported(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / ".gitignore").write_text("build\n.env\n")
    answer = run("init", "--lock", LOCK, *TARGETS)
    assert (tmp_path / ".gitignore").read_text() == "build\n.env\n"
    assert "consider adding to your .gitignore: /runs/ /receipts/\n" in answer.err


def test_second_init_changes_nothing(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    document = json.loads(run("init", "--lock", LOCK, *TARGETS, "--json").out)
    assert (document["ok"], document["written"]) == (True, [])


def test_workflows_below_the_top_of_a_repository_are_reported(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    below = tmp_path / "sub"
    below.mkdir()
    warning = "GitHub does not read .github/workflows/ci.yml here"
    monkeypatch.chdir(below)
    assert warning not in run("init", "--lock", LOCK, "--target", "compose").err
    answer = run("init", "--lock", LOCK)
    assert answer.code == 0
    assert answer.err.count(warning) == 1
    monkeypatch.chdir(tmp_path)
    assert warning not in run("init", "--lock", LOCK).err


def test_a_foreign_file_stops_init_before_writing(run: Run, tmp_path: Path) -> None:
    own = tmp_path / ".github/workflows/ci.yml"
    own.parent.mkdir(parents=True)
    own.write_text("name: mine\n")
    answer = run("init", "--lock", LOCK, *TARGETS)
    assert answer.code == 2
    assert ".github/workflows/ci.yml" in answer.err
    assert written(tmp_path) == {".github/workflows/ci.yml"}
    answer = run("init", "--lock", LOCK, *TARGETS, "--force")
    assert answer.code == 0
    assert "replaced .github/workflows/ci.yml" in answer.err
    assert own.read_text() != "name: mine\n"


def test_replaced_files_are_reported(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    with (tmp_path / ".github/workflows/ci.yml").open("a") as stream:
        stream.write("# my line\n")
    (tmp_path / ".devcontainer/check").unlink()
    (tmp_path / f"docker/images/{NAME}/Dockerfile").write_text("FROM scratch\n")
    answer = run("init", "--lock", LOCK, *TARGETS)
    assert answer.code == 0
    assert answer.err.startswith(f"replaced docker/images/{NAME}/ (8 files)\n")
    assert answer.err.splitlines()[1:-1] == [
        "wrote .devcontainer/check",
        "replaced .github/workflows/ci.yml",
    ]


@pytest.mark.parametrize("place", [f"docker/images/{NAME}", "docker/payload"])
@pytest.mark.parametrize("command", few(["init", "render"]))
def test_a_foreign_file_in_the_build_context_stays(
    run: Run, tmp_path: Path, command: str, place: str
) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    own = tmp_path / place / "notes.txt"
    own.write_text("mine\n")
    words = [command, *(("--lock", LOCK, *TARGETS) if command == "init" else ())]
    answer = run(*words)
    assert answer.code == 2
    assert f"{place}/notes.txt" in answer.err
    assert own.read_text() == "mine\n"
    assert run(*words, "--force").code == 0
    assert not own.exists()


@pytest.mark.parametrize(
    "there",
    [
        f"docker/images/{NAME}/thesis.txt",
        "docker/payload/thesis.txt",
        "docker/install/wheels",
    ],
)
def test_a_foreign_folder_is_not_replaced(run: Run, tmp_path: Path, there: str) -> None:
    path = tmp_path / there
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('cuda = "11.7"\n')
    assert run("init", "--lock", LOCK, *TARGETS).code == 2
    assert path.read_text() == 'cuda = "11.7"\n'
    assert written(tmp_path) == {there}


def test_render_names_every_stale_file_and_renews_it(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    (tmp_path / ".devcontainer/check").write_text(
        "exit 0\n# Rendered by envbuilder\n"
    )  # of an older release
    (tmp_path / ".github/workflows/ci.yml").unlink()
    (tmp_path / f"docker/images/{NAME}/Dockerfile").write_text("FROM scratch\n")
    with (tmp_path / "docker/payload/train/job.py").open("a") as stream:
        stream.write("# mine\n")
    (tmp_path / "docker/payload/train/data.py").unlink()
    (tmp_path / "docker/payload/entrypoint").chmod(0o644)
    answer = run("render", "--check", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["differing"] == [
        f"stale: docker/images/{NAME}/Dockerfile", "not executable: docker/payload/entrypoint",
        "missing: docker/payload/train/data.py", "stale: docker/payload/train/job.py",
        "stale: .devcontainer/check", "missing: .github/workflows/ci.yml",
    ]  # fmt: skip
    assert all(line in answer.err for line in json.loads(answer.out)["differing"])
    assert run("render").code == 0
    assert run("render", "--check").code == 0


def test_render_works_from_a_folder_below(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path / "src")
    assert run("render", "--check").code == 0
    (tmp_path / ".devcontainer/check").unlink()
    assert run("render").code == 0
    assert (tmp_path / ".devcontainer/check").exists()
    assert written(tmp_path / "src") == set()


def test_render_does_not_replace_foreign_files(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    (tmp_path / ".devcontainer/check").write_text("exit 0\n")
    answer = run("render")
    assert answer.code == 2
    assert (tmp_path / ".devcontainer/check").read_text() == "exit 0\n"
    assert run("render", "--force").code == 0
    assert run("render", "--check").code == 0


def test_a_lock_that_does_not_match_the_request_is_stale(
    run: Run, tmp_path: Path
) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    settings = tmp_path / "envbuilder.toml"
    settings.write_text('package = ["peft<0.12"]\n' + settings.read_text())
    answer = run("render", "--check")
    assert answer.code == 1
    assert (
        "missing: a lock in docker/images/ that matches envbuilder.toml" in answer.err
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('targets = ["helm"]', "there is no target 'helm'"),
        ('targets = "workflow"', "targets must be a list"),
        ('tragets = ["workflow"]', "did you mean 'targets'?"),
        (
            'targets = ["workflow"]\n[render.settings]\nmaek = "lint"',
            "unknown setting 'maek'",
        ),
        (
            'targets = ["workflow"]\n[render.settings]\nmake = 1',
            "make must be a string",
        ),
    ],
)
def test_a_wrong_table_is_refused_with_the_right_one(
    run: Run, tmp_path: Path, table: str, said: str
) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    (tmp_path / "envbuilder.toml").write_text(f"[render]\n{table}\n")
    answer = run("render", "--check")
    assert answer.code == 2
    assert said in answer.err


def test_without_the_table_render_writes_a_context(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, *TARGETS)
    assert run("render", "--lock", LOCK, "--output", "elsewhere").code == 0
    assert (tmp_path / f"elsewhere/images/{NAME}/Dockerfile").exists()
    assert run("render", "--lock", LOCK, "--output", "elsewhere", "--check").code == 0
    (tmp_path / "elsewhere/payload/entrypoint").chmod(0o644)
    checked = run("render", "--lock", LOCK, "--output", "elsewhere", "--check")
    assert (checked.code, checked.err) == (
        1,
        "elsewhere: not executable: payload/entrypoint\n",
    )
    (tmp_path / "envbuilder.toml").write_text("")
    answer = run("render", "--lock", LOCK)
    assert answer.code == 0
    file = f"build/images/{NAME}/Dockerfile"
    assert (tmp_path / file).exists()
    assert (
        f"`docker buildx build --load --file {file} --tag my-image build`" in answer.err
    )


# --- another stack for a repository --------------------------------------------------------------------------------


@pytest.fixture
def recorded_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    with serve() as server:
        monkeypatch.setenv("ENVBUILDER_INDEX_URL", server.url)
        yield


@pytest.mark.parametrize(
    ("words", "kept"),
    few([
        (["--cuda", "11.7", "--base", "bootstrap"], {"cuda": "11.7", "base": "bootstrap"}),
        (["--base", "bootstrap"], {"cuda": "11.7", "base": "bootstrap"}),
        (["--cuda", "12.4"], {"cuda": "12.4"}),
        (["--cuda", "11.7", "--python", "3.11"], {"cuda": "11.7", "python": "3.11"}),
    ]),
)  # fmt: skip
def test_init_with_force_drops_its_own_pins_that_conflict(
    run: Run,
    tmp_path: Path,
    recorded_index: None,
    words: list[str],
    kept: dict[str, str],
) -> None:
    assert run("init", "--cuda", "11.7").code == 0
    settings = tmp_path / "envbuilder.toml"
    (stack,) = (path.name for path in (tmp_path / "docker/images").iterdir())
    with settings.open("a") as stream:
        stream.write(f'stack = "{stack}"\n')
    before = settings.read_text()
    assert 'python = "3.10"' in before
    assert "\nbase =" not in before
    answer = run("init", *words)
    assert answer.code in (2, 4)
    assert settings.read_text() == before
    answer = run("init", *words, "--force")
    assert answer.code == 0, answer.err
    values = tomllib.loads(settings.read_text())
    assert {key: values.get(key) for key in kept} == kept
    assert run("render", "--check").code == 0


def test_init_with_force_keeps_what_a_person_wrote(
    run: Run, tmp_path: Path, recorded_index: None
) -> None:
    assert run("init", "--cuda", "11.7").code == 0
    settings = tmp_path / "envbuilder.toml"
    settings.write_text(
        settings.read_text().replace("[render]", 'driver = "470"\n[render]')
    )
    before = settings.read_text()
    answer = run("init", "--cuda", "13.0", "--force")
    assert answer.code == 4
    assert "driver 470" in answer.err
    assert settings.read_text() == before


@pytest.mark.slow
def test_init_with_force_removes_an_earlier_base(
    run: Run, tmp_path: Path, recorded_index: None
) -> None:
    run("init", "--lock", LOCK)
    settings = tmp_path / "envbuilder.toml"
    assert 'base = "bootstrap"' in settings.read_text()
    answer = run("init", "--base", "auto", "--python", "3.10", "--force")
    assert answer.code == 0, answer.err
    values = tomllib.loads(settings.read_text())
    assert (values["python"], "base" in values) == ("3.10", False)
    assert run("render", "--check").code == 0


@pytest.mark.slow
def test_what_a_refusal_in_a_repository_suggests_works_there(
    run: Run, tmp_path: Path, recorded_index: None
) -> None:
    run("init", "--lock", LOCK)
    settings = tmp_path / "envbuilder.toml"
    before = settings.read_text()
    answer = run("init", "--cuda", "12.4", "--json")
    assert "torch 2.0.1 (envbuilder.toml)" in answer.err
    from_init = json.loads(answer.out)["suggestions"]
    settings.write_text(before.replace('cuda = "11.7"', 'cuda = "12.4"'))
    answer = run("render", "--json")
    assert answer.code == 4
    assert "CUDA 12.4 (envbuilder.toml), torch 2.0.1 (envbuilder.toml)" in answer.err
    assert json.loads(answer.out)["suggestions"] == from_init
    commands = [suggestion["command"] for suggestion in from_init]
    for command in commands:
        assert command.startswith("envbuilder init --")
        settings.write_text(before)
        answer = run(*shlex.split(command)[1:])
        assert answer.code == 0, (command, answer.err)
        assert run("render", "--check").code == 0


@pytest.mark.parametrize("command", ["build", "base", "render", "init"])
def test_request_options_next_to_a_lock_are_refused(run: Run, command: str) -> None:
    answer = run(command, "--lock", LOCK, "--base", "bootstrap")
    assert answer.code == 2
    assert "--base has no effect with --lock: the lock has decided it" in answer.err
    answer = run(command, "--lock", LOCK, "--package", "peft", "--as-of", "2026-01-01")
    assert answer.code == 2
    assert "--as-of and --package have no effect with --lock" in answer.err


@pytest.mark.slow
def test_system_packages_are_kept_and_replaced(
    run: Run, tmp_path: Path, recorded_index: None
) -> None:
    settings = tmp_path / "envbuilder.toml"
    assert run("init", "--cuda", "11.7", "--apt", "libgl1").code == 0
    assert tomllib.loads(settings.read_text())["apt"] == ["libgl1"]
    answer = run("init", "--apt", "ffmpeg")
    assert "its system packages are ffmpeg, not libgl1" in answer.err or (
        "its system packages are libgl1, not ffmpeg" in answer.err
    )
    assert run("init", "--apt", "ffmpeg", "--force").code == 0
    assert tomllib.loads(settings.read_text())["apt"] == ["ffmpeg"]
    assert run("render", "--check").code == 0
    assert run("render", "--apt", "libgl1", "--lock", LOCK).code == 2
