"""What people expect of any command line: help, version, suggestions, the environment, completion."""

import json
import tomllib
from pathlib import Path

import pytest

import envbuilder
from envbuilder import catalog
from envbuilder.catalog.gpu_names import find_gpu
from envbuilder.resolve.parsers import parse_gpu

from .conftest import Run
from .test_init import LOCK, NAME

# --- help, version, suggestions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("catalog",)])
def test_a_group_alone_prints_its_help(run: Run, words: tuple[str, ...]) -> None:
    answer = run(*words)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == run(*words, "-h").out == run(*words, "--help").out
    assert answer.out.startswith("Usage: envbuilder")


def test_the_help_of_catalog_is_not_cut(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run("catalog", "-h").out
    assert "..." not in text.split("Commands:")[1]
    assert "for one CUDA version (12.4 or 12.4.1) or all." in " ".join(text.split())


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_that_of_the_package(run: Run, option: str) -> None:
    answer = run(option)
    assert (answer.code, answer.out) == (0, f"envbuilder {envbuilder.__version__}\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["biuld"],
            2,
            "error: there is no command 'biuld'\nhint: did you mean `envbuilder build`?\n",
        ),
        (
            ["zzz"],
            2,
            "error: there is no command 'zzz'\nhint: see `envbuilder --help`\n",
        ),
        (["catalog", "imges"], 2, "hint: did you mean `envbuilder catalog images`?\n"),
        (["resolve", "--cdua", "11.7"], 2, "--cuda"),
        (["resolve", "--cud"], 2, "(Did you mean one of: '--cuda', '--cudnn'?)"),
        (["resolve", "--cuda"], 2, "hint: it takes a value: `--cuda 11.7`"),
        (["resolve", "--gpu"], 2, "hint: it takes a value: `--gpu 'RTX 3090'`"),
        (["build", "--tag"], 2, "hint: it takes a value: `--tag team/train:1`"),
        (["build", "--gpu-access"], 2, "hint: it takes a value: `--gpu-access auto`"),
        (["catalog", "page", "--output"], 2, "hint: it takes a value: `--output "),
        (["resolve", "--json=1"], 2, "error: Option '--json' does not take a value."),
        (["build", "--gpu-access", "gpu"], 2, "Did you mean 'gpus'?"),
        (["lock", "--format", "requirement"], 2, "Did you mean 'requirements'?"),
        (
            ["render", "--lock", LOCK, "--target", "kubernets"],
            2,
            "hint: did you mean `--target kubernetes`?",
        ),
        (
            ["render", "--lock", LOCK, "--target", "compose,slurm"],
            2,
            "hint: repeat --target: `--target compose --target slurm`",
        ),
        (
            ["render", "--lock", LOCK, "--target", "slurm", "--set", "huors=2"],
            2,
            "unknown setting 'huors'; did you mean hours?",
        ),
        (
            ["render", "--lock", LOCK, "--target", "zzz"],
            2,
            "hint: targets: compose, kubernetes",
        ),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(
    run: Run, words: list[str], code: int, said: str
) -> None:
    answer = run(*words)
    assert answer.code == code
    assert said in answer.err


# --- aliases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--flavor", "--flavour"])
def test_both_spellings_of_flavor_work(run: Run, option: str) -> None:
    answer = run("resolve", option, "cpu", "--json")
    assert json.loads(answer.out)["stack"]["flavour"] == "cpu"


def test_both_spellings_of_flavor_work_in_the_settings(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "envbuilder.toml").write_text('flavor = "cpu"\n')
    assert json.loads(run("resolve", "--json").out)["stack"]["flavour"] == "cpu"
    (tmp_path / "envbuilder.toml").write_text('flavor = "cpu"\nflavour = "devel"\n')
    answer = run("resolve")
    assert (answer.code, "flavor and flavour are the same key" in answer.err) == (
        2,
        True,
    )


def test_of_two_places_for_settings_the_used_one_is_named(
    run: Run, tmp_path: Path
) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.envbuilder]\ncuda = "12.1"\n')
    assert "cu121-" in run("resolve").out
    (tmp_path / "envbuilder.toml").write_text('cuda = "11.7"\n')
    answer = run("resolve")
    assert "cu117-" in answer.out
    assert answer.err == (
        f"settings: {tmp_path / 'envbuilder.toml'}; [tool.envbuilder] in pyproject.toml is ignored\n"
    )
    for text in ("[tool.other]\n", "[", ""):
        project.write_text(text)
        assert run("resolve").err == ""


@pytest.mark.parametrize("command", ["build", "accept"])
def test_rerun_and_fresh_are_one_option(run: Run, command: str) -> None:
    assert "--rerun, --fresh" in run(command, "--help").out


# --- the environment -----------------------------------------------------------------------------------------------


def test_command_line_overrides_environment_overrides_settings(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cuda(*words: str) -> str:
        return str(json.loads(run("resolve", *words, "--json").out)["stack"]["cuda"])

    (tmp_path / "envbuilder.toml").write_text('cuda = "12.1"\n')
    assert cuda().startswith("12.1")
    monkeypatch.setenv("ENVBUILDER_CUDA", "12.4")
    assert cuda().startswith("12.4")
    assert cuda("--cuda", "12.6").startswith("12.6")
    monkeypatch.setenv("ENVBUILDER_CUDA", "")
    assert cuda().startswith("12.1")


@pytest.mark.parametrize("variable", ["ENVBUILDER_FLAVOR", "ENVBUILDER_FLAVOUR"])
def test_every_request_option_has_its_variable(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "cpu")
    monkeypatch.setenv("ENVBUILDER_AS_OF", "2026-11-09")
    stack = json.loads(run("resolve", "--json").out)["stack"]
    assert (stack["flavour"], stack["as_of"]) == ("cpu", "2026-11-09")


def test_a_wrong_variable_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVBUILDER_CUDA", "$(id)")
    answer = run("resolve")
    assert (answer.code, answer.out) == (2, "")
    assert "--cuda '$(id)'" in answer.err
    assert "  set in the environment: ENVBUILDER_CUDA\n" in answer.err
    monkeypatch.setenv("ENVBUILDER_CUDA", "11.7")
    monkeypatch.setenv("ENVBUILDER_INDEX_URL", "ftp://x")
    assert "error: ENVBUILDER_INDEX_URL 'ftp://x': " in run("lock").err


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ENVBUILDER_CUDDA", "ENVBUILDER_CUDA"),
        ("ENVBUILDER_INDX_URL", "ENVBUILDER_INDEX_URL"),
        ("ENVBUILDER_GPU_ACESS", "ENVBUILDER_GPU_ACCESS"),
    ],
)
def test_a_misspelt_variable_is_one_warning(
    run: Run, monkeypatch: pytest.MonkeyPatch, variable: str, meant: str
) -> None:
    before = run("resolve", "--cuda", "11.7")
    monkeypatch.setenv(variable, "x")
    monkeypatch.setenv("ENVBUILDER_OF_OTHERS", "x")
    answer = run("resolve", "--cuda", "11.7")
    assert (answer.code, answer.out) == (0, before.out)
    line = f"warning: {variable} is ignored; did you mean {meant}?\n"
    assert answer.err == line + before.err


@pytest.mark.parametrize("name", ["INDEX_URL", "RUNS", "SIF", "HOME", "TURNS"])
def test_other_variables_of_ours_are_no_mistakes(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"ENVBUILDER_{name}", "https://example.org/simple")
    assert "warning" not in run("resolve", "--cuda", "11.7").err


def test_the_environment_does_not_name_another_machine_for_the_doctor(
    run: Run, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    host = str(root / "tests" / "hosts" / "no-gpu.json")
    before = run("doctor", "--target", host).out
    monkeypatch.setenv("ENVBUILDER_GPU", "H100")
    assert run("doctor", "--target", host).out == before


# --- completion ----------------------------------------------------------------------------------------------------


def complete(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, line: str
) -> list[str]:
    """The values that a shell would offer at the end of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_ENVBUILDER_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv(
        "COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1)
    )
    answer = run()
    assert (answer.code, answer.err) == (0, "")
    lines = [line for line in answer.out.splitlines() if line]
    if shell == "zsh":  # kind, value and help, each on its line
        return lines[1::3]
    return [line.partition(",")[2].partition("\t")[0] for line in lines]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("envbuilder bu", "build"),
        ("envbuilder resolve --cuda 11", "11.7"),
        ("envbuilder build --gpu rtx-309", "RTX-3090"),
        ("envbuilder lock --torch 2.0", "2.0.1"),
        ("envbuilder lock --python 3.1", "3.10"),
        ("envbuilder base --flavor d", "devel"),
        ("envbuilder base --flavour d", "devel"),
        ("envbuilder base --os deb", "debian12"),
        ("envbuilder base --platform linux/a", "linux/arm64"),
        ("envbuilder render --target k", "kubernetes"),
        ("envbuilder init --target b", "bake"),
        ("envbuilder accept --gpu-access c", "cdi"),
    ],
)
def test_values_are_completed(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, line: str, value: str
) -> None:
    assert value in complete(run, monkeypatch, shell, line)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(
    run: Run, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    monkeypatch.setenv("_ENVBUILDER_COMPLETE", f"{shell}_source")
    answer = run()
    assert answer.code == 0
    assert f"_ENVBUILDER_COMPLETE={shell}_complete" in answer.out


def test_every_gpu_that_is_completed_is_the_one_it_names(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = catalog.load()
    names = complete(run, monkeypatch, "fish", "envbuilder resolve --gpu ")
    found = {
        str(gpu.capability)
        for name in names
        if (gpu := find_gpu(parse_gpu(name), facts))
    }
    assert len(names) > 50
    assert found == {str(gpu.capability) for gpu in facts.gpus}


def test_every_python_that_is_completed_resolves(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = complete(run, monkeypatch, "fish", "envbuilder resolve --python ")
    monkeypatch.delenv("_ENVBUILDER_COMPLETE")
    assert "3.14" in names
    assert [name for name in names if run("resolve", "--python", name).code] == []


def test_a_damaged_catalog_completes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "policy.toml").write_text("[")
    assert (
        complete(run, monkeypatch, "bash", "envbuilder resolve --catalog own --cuda 1")
        == []
    )


# --- a repository that has been set up -------------------------------------------------------------------------------


def settings_of(folder: Path) -> dict[str, object]:
    return dict(tomllib.loads((folder / "envbuilder.toml").read_text())["render"])


def test_rendered_target_is_added_so_that_check_compares_it(
    run: Run, tmp_path: Path
) -> None:
    run("init", "--lock", LOCK, "--target", "devcontainer")
    answer = run("render", "--target", "slurm", "--set", "hours=2")
    assert (answer.code, "added slurm to envbuilder.toml" in answer.err) == (0, True), (
        answer.err
    )
    assert settings_of(tmp_path) == {
        "targets": ["devcontainer", "slurm"],
        "settings": {"hours": "2"},
    }
    assert run("render", "--check").code == 0
    (tmp_path / "slurm/train.sbatch").unlink()
    answer = run("render", "--check")
    assert (answer.code, answer.err) == (1, "missing: slurm/train.sbatch\n")


def test_a_check_enrols_nothing(run: Run, tmp_path: Path) -> None:
    run("init", "--lock", LOCK, "--target", "devcontainer")
    before = (tmp_path / "envbuilder.toml").read_text()
    assert run("render", "--target", "slurm", "--check").code == 1
    assert (
        run("render", "--target", "slurm", "--output", "elsewhere", "--lock", LOCK).code
        == 0
    )
    assert (tmp_path / "envbuilder.toml").read_text() == before


def test_a_second_init_adds_and_keeps_what_people_wrote(
    run: Run, tmp_path: Path
) -> None:
    run("init", "--lock", LOCK, "--target", "devcontainer")
    file = tmp_path / "envbuilder.toml"
    mine = file.read_text().replace(
        "[render]", '# my own words\ndriver = "535"  # our cluster\n\n[render]'
    )
    file.write_text(mine)
    answer = run("init", "--target", "slurm", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["targets"] == ["devcontainer", "slurm"]
    text = file.read_text()
    assert '# my own words\ndriver = "535"  # our cluster\n' in text
    assert text.replace(', "slurm"', "") == mine
    assert run("render", "--check").code == 0


def test_init_adds_to_settings_that_people_wrote(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text(
        '# ours\ncuda = "11.7"\n\n[accept]\nchecks = []\n'
    )
    answer = run("init", "--lock", LOCK, "--target", "slurm")
    assert answer.code == 0, answer.err
    assert "added torch, python, base, [render] to envbuilder.toml\n" in answer.err
    assert "replaced" not in answer.err
    text = (tmp_path / "envbuilder.toml").read_text()
    assert text.startswith('# ours\ncuda = "11.7"\n')
    assert tomllib.loads(text) == {
        "cuda": "11.7", "torch": "2.0.1", "python": "3.9", "base": "bootstrap", "accept": {"checks": []},
        "render": {"targets": ["slurm"]},
    }  # fmt: skip
    assert run("render", "--check").code == 0


def test_init_changes_a_request_only_with_force(run: Run, tmp_path: Path) -> None:
    (tmp_path / "envbuilder.toml").write_text('cuda = "12.4"\n')
    answer = run("init", "--lock", LOCK, "--target", "slurm")
    assert answer.code == 2
    assert (
        f"envbuilder.toml requests another stack than {NAME}; nothing was written"
        in answer.err
    )
    assert [path.name for path in tmp_path.iterdir()] == ["envbuilder.toml"]
    answer = run("init", "--lock", LOCK, "--target", "slurm", "--force")
    assert answer.code == 0
    assert "changed cuda in envbuilder.toml\n" in answer.err
    assert tomllib.loads((tmp_path / "envbuilder.toml").read_text())["cuda"] == "11.7"


def test_init_adds_to_the_table_of_a_pyproject(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\nname = "x"\n\n[tool.envbuilder]\ncuda = "11.7"  # ours\n\n[tool.ruff]\n'
    )
    answer = run("init", "--lock", LOCK, "--target", "slurm")
    assert answer.code == 0
    assert "added torch, python, base, [render] to pyproject.toml\n" in answer.err
    tool = tomllib.loads(file.read_text())["tool"]
    assert (tool["envbuilder"]["render"], tool["ruff"]) == ({"targets": ["slurm"]}, {})
    assert 'cuda = "11.7"  # ours' in file.read_text()
    assert not (tmp_path / "envbuilder.toml").exists()
    assert run("render", "--check").code == 0
