"""What a line of a project's file says: pip, pyproject.toml, conda, Dockerfile, lock files."""

import io

import pytest
from dockerfile_parse import DockerfileParser
from packaging.version import Version

from envbuilder.resolve.project_files import docker_file
from envbuilder.resolve.project_files.combination import (
    Given,
    LineAnswer,
    Outcome,
    ProjectRequest,
    combine,
)
from envbuilder.resolve.project_files.kinds import (
    read_constraints,
    read_project_file,
)
from envbuilder.resolve.project_files.statements import FileProblem


def project(text: str, file: str = "requirements.txt", **given: str) -> ProjectRequest:
    origins = {name: f"--{name}" for name in given}
    return combine(read_project_file(text, file), Given(options=given, origins=origins))


def options(text: str, file: str = "requirements.txt", **given: str) -> dict[str, str]:
    chosen = project(text, file, **given).options
    return {name: choice.value for name, choice in chosen.items()}


def packages(text: str, file: str = "requirements.txt") -> list[str]:
    return list(project(text, file).packages)


def answer(text: str, file: str = "requirements.txt") -> LineAnswer:
    [only] = project(text, file).answers
    return only


# --- requirements.txt ----------------------------------------------------------------------------------------------


def test_pins_and_indexes_of_torch_are_options() -> None:
    cases = {
        "torch==2.0.1+cu117": {"torch": "2.0.1", "cuda": "11.7"},
        "torch == 2.0": {"torch": "2.0.0"},
        "torch==2.0.*": {"torch": "2.0"},
        "Torch[opt]==2.1.0": {"torch": "2.1.0"},
        "torchvision==0.15.2+cpu": {"torchvision": "0.15.2", "flavour": "cpu"},
        "transformers==4.30.2": {"transformers": "4.30.2"},
        "nvidia_cudnn_cu11==8.5.0.96": {"cudnn": "8.5.0.96"},
        "-i https://download.pytorch.org/whl/cu118": {"cuda": "11.8"},
        "--index-url=https://download.pytorch.org/whl/cpu": {"flavour": "cpu"},
        "--extra-index-url https://mirror.example/pytorch-wheels/cu121/": {
            "cuda": "12.1"
        },
        "-f https://download.pytorch.org/whl/cu113": {"cuda": "11.3"},
        "-f https://download.pytorch.org/whl/cu118/torch_stable.html": {"cuda": "11.8"},
        "torch @ https://download.pytorch.org/whl/cu118/torch-2.0.1%2Bcu118-cp310-cp310-linux_x86_64.whl": {
            "torch": "2.0.1",
            "cuda": "11.8",
        },
        "https://mirror.example/torchvision-0.15.2+cu117-cp310-cp310-linux_x86_64.whl#sha256=0": {
            "torchvision": "0.15.2",
            "cuda": "11.7",
        },
        "torch==2.1.0 --extra-index-url https://download.pytorch.org/whl/cu121": {
            "torch": "2.1.0",
            "cuda": "12.1",
        },
        "torch>=2.0,<2.3": {},
        "torch": {},
        "torch==2.2.0.dev20231010": {},
        "torch!=2.0.1": {},
    }
    for text, expected in cases.items():
        assert options(text) == expected, text


def test_everything_else_is_a_package_with_extras_and_markers() -> None:
    text = """\
\ufeff# comment
peft==0.4.0  # why
datasets[audio]>=2.14 ; python_version >= "3.8"
numpy==1.24.3 \\
    --hash=sha256:aaaa \\
    --hash=sha256:bbbb
tqdm --config-settings="x=1"
url-like#fragment
torch>=2.0
    spaced
""".removeprefix("\ufeff")
    assert packages(text.replace("url-like#fragment\n", "")) == [
        "peft==0.4.0",
        'datasets[audio]>=2.14; python_version >= "3.8"',
        "numpy==1.24.3",
        "tqdm",
        "torch>=2.0",
        "spaced",
    ]


def test_a_line_that_is_left_out_says_why() -> None:
    cases = {
        'a; sys_platform == "win32"': 'sys_platform == "win32" does not hold',
        "a; platform_machine == 'aarch64'": "does not hold on linux/amd64",
        "-e .": "the project itself",
        "--no-binary :all:": "an option of pip",
        "--trusted-host mirror.example": "an option of pip",
        "--pre": "an option of pip",
        "x @ hg+https://hg.example/x": "a repository is written git+",
        "x @ https://me:secret@files.example/x.tar.gz": "an address",
        "-e ../lib": "names no package",
        "torch==2.0.1+rocm5.4.2": "rocm5.4.2 is no build for CUDA",
        "triton==2.0.0": "torch brings",
        "nvidia-nccl-cu12==2.18.1": "torch brings",
        "--extra-index-url https://mirror.example/simple": "only one index is asked",
        "-i https://download.pytorch.org/whl/nightly/cu121": "nightly builds",
        "-i https://download.pytorch.org/whl/rocm6.0": "rocm6.0 is no CUDA",
        "-f https://download.pytorch.org/whl/torch_stable.html": "knows where",
        "a==${VERSION}": "an environment variable",
        "a==1.0; platform_release >= '5'": "not accepted",
        "a===1.0": "not accepted",
    }
    for text, reason in cases.items():
        found = answer(text)
        assert found.outcome is Outcome.LEFT_OUT, text
        assert reason in found.detail, text


def test_addresses_are_taken_as_package_takes_them() -> None:
    text = "git+https://github.com/example/x.git@v1\ny @ https://files.example/y-1.tar.gz\n"
    assert packages(text) == [
        "x @ git+https://github.com/example/x.git@v1",
        "y @ https://files.example/y-1.tar.gz",
    ]


def test_a_malformed_line_is_refused_with_its_place() -> None:
    for text in ("a b", "a=1", "a>", "-r", "a[", "'a", '--index-url "x', "-i http://["):
        with pytest.raises(FileProblem, match=r"^requirements\.txt:2: "):
            project(f"ok\n{text}\n")


def test_an_index_is_taken_without_showing_its_password() -> None:
    url = "https://me:secret@mirror.example/simple?token=secret"
    found = project(f"-i {url}")
    assert found.index_url == url
    assert "secret" not in repr(found.answers)
    assert found.answers[0].detail == "--index-url https://mirror.example/simple"
    assert project(f"-i {url}", index_url="x").index_url == ""
    default = "https://" + ".".join(("pypi", "org")) + "/simple"
    assert project(f"-i {default}").index_url == ""


def test_constraints_only_bound() -> None:
    found = combine(read_constraints("numpy<2\ntorch==2.0.1\n", "c.txt"), Given())
    assert list(found.constraints) == ["numpy<2"]
    assert found.packages == {}
    assert found.options["torch"].value == "2.0.1"


def test_what_is_given_wins_and_is_said() -> None:
    found = project("torch==2.1.0+cu121\nnumpy\n", torch="2.0.1", cuda="12.1")
    assert options("torch==2.1.0", torch="2.0.1") == {}
    assert found.contradictions == [
        "requirements.txt:1 has torch 2.1.0; --torch 2.0.1 is used instead"
    ]
    assert found.answers[0].detail == "--cuda 12.1; --torch 2.0.1 is given"
    assert options("torch==2.1.0", torch="2.1") == {"torch": "2.1.0"}
    assert options("torch==2.1.0", torch="any") == {}
    assert project("torch>=2.1", torch="2.0.1").contradictions
    assert options("torch==2.1.0+cu121", flavour="cpu") == {"torch": "2.1.0"}
    assert options("torch==2.1.0+cpu", cuda="12.1") == {"torch": "2.1.0"}
    given = Given(packages=("peft<0.5",))
    found = combine(read_project_file("Peft==0.6\n", "r.txt"), given)
    assert found.packages == {}
    assert found.answers[0].detail == "--package peft<0.5 is given"


def test_lines_that_contradict_each_other_are_refused() -> None:
    text = "torch==2.0.1\ntorch==2.1.0\n"
    with pytest.raises(FileProblem) as caught:
        project(text)
    assert str(caught.value) == (
        "requirements.txt:2 has torch 2.1.0, and requirements.txt:1 has 2.0.1"
    )
    assert options(text, torch="2.1.0") == {"torch": "2.1.0"}
    with pytest.raises(FileProblem, match="flavor cpu, and"):
        project("torch==2.0.1+cu117\ntorchvision==0.15.2+cpu\n")


def test_markers_of_python_are_judged_with_the_stack() -> None:
    found = project("a; python_version < '3.10'\nb; python_version >= '3'\n")
    assert list(found.packages) == ['a; python_version < "3.10"', "b"]
    [first, second] = found.answers_for("linux/amd64", Version("3.11"))
    assert first.outcome is Outcome.LEFT_OUT
    assert first.detail == 'python_version < "3.10" does not hold on Python 3.11'
    assert second.outcome is Outcome.TAKEN


# --- pyproject.toml and its like -----------------------------------------------------------------------------------


def test_a_pyproject_with_extras_and_groups() -> None:
    text = """
[project]
requires-python = ">=3.9"
dependencies = ["torch>=2.1", "a[x]"]
[project.optional-dependencies]
Train_Extra = ["b"]
other = ["c"]
[dependency-groups]
dev = ["d", {include-group = "x"}]
X = ["e", {include-group = "dev"}]
y = ["f"]
"""
    statements = read_project_file(text, "pyproject.toml", ("train-extra", "dev"))
    found = combine(statements, Given())
    assert list(found.packages) == ["torch>=2.1", "a[x]", "b", "d", "e"]
    assert list(found.requires_python) == [">=3.9"]
    assert [item.line for item in found.answers] == [3, 4, 4, 6, 7, 9, 10, 11]
    with pytest.raises(FileProblem, match="no extra and no group 'nothing'"):
        read_project_file(text, "pyproject.toml", ("nothing",))
    assert project(text, "pyproject.toml", python="3.8").contradictions == [
        "pyproject.toml:3 requires Python >=3.9; --python 3.8 is used instead"
    ]


def test_poetrys_bounds_are_read_as_it_means_them() -> None:
    cases = {
        '"^2.1"': "a<3,>=2.1",
        '"^0.3.1"': "a<0.4,>=0.3.1",
        '"^0.0.3"': "a<0.0.4,>=0.0.3",
        '"~1.2.3"': "a<1.3,>=1.2.3",
        '"~1"': "a<2,>=1",
        '"1.4"': "a==1.4",
        '"1.4.*"': "a==1.4.*",
        '">=1,<2"': "a<2,>=1",
        '"*"': "a",
        '{version = "^1", extras = ["x"], markers = "python_version < \'3.12\'"}': (
            'a[x]<2,>=1; python_version < "3.12"'
        ),
    }
    for value, expected in cases.items():
        text = f'[tool.poetry.dependencies]\npython = "^3.9"\na = {value}\n'
        found = project(text, "pyproject.toml")
        assert list(found.packages) == [expected], value
        assert list(found.requires_python) == ["<4,>=3.9"]


def test_poetrys_lists_and_conditions_become_markers() -> None:
    text = """
[tool.poetry.dependencies]
torch = [
  {version = "2.0.1", platform = "darwin"},
  {version = "2.1.0", markers = "sys_platform == 'linux' or sys_platform == 'win32'"},
]
a = {version = "^1", python = "<3.11"}
b = {url = "https://download.pytorch.org/whl/cu118/torch-2.1.0%2Bcu118-cp310-cp310-linux_x86_64.whl"}
"""
    assert packages(text, "pyproject.toml") == ['a<2,>=1; python_version < "3.11"']
    assert options(text, "pyproject.toml") == {"torch": "2.1.0", "cuda": "11.8"}
    for value in ("3", '{version = "1", python = "new"}'):
        with pytest.raises(FileProblem, match=r"^pyproject\.toml:2"):
            project(f"[tool.poetry.dependencies]\na = {value}\n", "pyproject.toml")


def test_uvs_sources_name_the_cuda() -> None:
    text = """
[project]
dependencies = ["torch==2.6.0"]
[tool.uv]
constraint-dependencies = ["numpy<2"]
[tool.uv.sources]
torch = [
  {index = "cpu", marker = "sys_platform == 'darwin'"},
  {index = "cuda", marker = "sys_platform == 'linux'"},
]
[[tool.uv.index]]
name = "cpu"
url = "https://download.pytorch.org/whl/cpu"
explicit = true
[[tool.uv.index]]
name = "cuda"
url = "https://download.pytorch.org/whl/cu124"
explicit = true
"""
    assert options(text, "pyproject.toml") == {"torch": "2.6.0", "cuda": "12.4"}
    assert list(project(text, "pyproject.toml").constraints) == ["numpy<2"]


def test_a_pipfile() -> None:
    text = """
[[source]]
url = "https://download.pytorch.org/whl/cu118"
[packages]
torch = "==2.0.1"
a = {version = ">=1", extras = ["x"]}
b = {git = "https://git.example/b.git", ref = "v1"}
[dev-packages]
c = "*"
[requires]
python_version = "3.10"
"""
    assert options(text, "Pipfile") == {
        "torch": "2.0.1", "cuda": "11.8", "python": "3.10",
    }  # fmt: skip
    assert packages(text, "Pipfile") == [
        "a[x]>=1",
        "b @ git+https://git.example/b.git@v1",
    ]


@pytest.mark.parametrize(
    "text",
    ["x = ", "a = " + "[" * 5000, "[project]\ndependencies = 3", "project = 3",
     "[project]\ndependencies = ['a b']", "[tool.uv]\nindex = 3",
     "[tool.uv.sources]\ntorch = 3", "[dependency-groups]\na = 3",
     "[tool.poetry.dependencies]\na = {version = 3}", "[project]\nrequires-python = '3 or so'"],
)  # fmt: skip
def test_a_malformed_pyproject_is_one_clear_error(text: str) -> None:
    with pytest.raises(FileProblem, match=r"^pyproject\.toml"):
        project(text, "pyproject.toml")


def test_lock_files_pin_what_the_project_needs() -> None:
    uv = """
version = 1
requires-python = ">=3.10"
[[package]]
name = "mine"
version = "1"
source = { virtual = "." }
dependencies = [
  { name = "direct", extra = ["x"] },
  { name = "forked", version = "1", marker = "python_version < '3.11'" },
  { name = "torch" },
]
[[package]]
name = "direct"
version = "2.0"
source = { registry = "https://index.example/simple" }
[[package]]
name = "forked"
version = "1"
[[package]]
name = "forked"
version = "2"
[[package]]
name = "through"
version = "3"
[[package]]
name = "from-git"
version = "3"
source = { git = "https://git.example/x.git?rev=main#0123" }
[[package]]
name = "torch"
version = "2.4.1+cu118"
"""
    found = project(uv, "uv.lock")
    assert list(found.packages) == [
        "direct[x]==2.0",
        'forked==1; python_version < "3.11"',
    ]
    assert list(found.constraints) == ["through==3"]
    assert options(uv, "uv.lock") == {"torch": "2.4.1", "cuda": "11.8"}
    poetry = '[[package]]\nname = "a"\nversion = "1"\n[metadata]\npython-versions = ">=3.9"\n'
    found = project(poetry, "poetry.lock")
    assert list(found.constraints) == ["a==1"]
    assert list(found.requires_python) == [">=3.9"]
    pylock = '[[packages]]\nname = "a"\nversion = "1"\n[[packages]]\nname = "b"\n'
    assert packages(pylock, "pylock.dev.toml") == ["a==1"]
    for text in ("package = 3", "[[package]]\nversion = '1'", "package = [3]"):
        with pytest.raises(FileProblem, match=r"^uv\.lock: "):
            project(text, "uv.lock")


# --- conda ---------------------------------------------------------------------------------------------------------


def test_condas_specs_are_read_as_it_means_them() -> None:
    cases = {
        "python=3.10.8": {"python": "3.10"},
        "pytorch-cuda=11.7": {"cuda": "11.7"},
        "nvidia::cudatoolkit=11.8.0": {"cuda": "11.8"},
        "pytorch=2.0.1": {},
        "pytorch==2.0.1=py3.10_cuda11.7_cudnn8.5.0_0": {
            "torch": "2.0.1", "cuda": "11.7", "cudnn": "8.5.0",
        },
        "pytorch=2.0.1=cpu_py310": {"torch": "2.0.1", "flavour": "cpu"},
        "cpuonly": {"flavour": "cpu"},
        "torchvision=0.15.2": {"torchvision": "0.15.2"},
        "cudnn=8.9": {"cudnn": "8.9"},
        "transformers ==4.30.2": {"transformers": "4.30.2"},
    }  # fmt: skip
    cases["pytorch=2.0.1"] = {"torch": "2.0.1"}
    for spec, expected in cases.items():
        text = f"dependencies:\n  - {spec}\n"
        assert options(text, "environment.yml") == expected, spec
    plain = {
        "numpy=1.24": "numpy==1.24.*",
        "numpy=1.24.3=py310h_0": "numpy==1.24.3",
        "pandas>=1.5,<2": "pandas<2,>=1.5",
        "conda-forge::opencv": "opencv-python",
        "librosa": "librosa",
        "scipy 1.10": "scipy==1.10",
        "scikit-learn=1.2.*": "scikit-learn==1.2.*",
    }
    for spec, expected in plain.items():
        text = f"dependencies:\n  - {spec}\n"
        assert packages(text, "environment.yaml") == [expected], spec
    for spec in (
        "numpy=1|2",
        "a b c d",
        "libgcc-ng=11",
        "_libgcc_mutex",
        "pip",
        "openssl",
        "mkl=2021",
    ):
        text = f"dependencies:\n  - {spec}\n"
        assert answer(text, "environment.yml").outcome is Outcome.LEFT_OUT, spec


def test_pips_list_in_an_environment_is_a_requirements_file() -> None:
    text = """
name: x
dependencies:
  - pip
  - pip:
    - --extra-index-url https://download.pytorch.org/whl/cu121
    - torch==2.1.0
    - peft  # why
"""
    found = project(text, "environment.yml")
    assert options(text, "environment.yml") == {"torch": "2.1.0", "cuda": "12.1"}
    assert list(found.packages) == ["peft"]
    assert [item.line for item in found.answers] == [2, 4, 6, 7, 8]


@pytest.mark.parametrize(
    "text",
    ["", "- a", "dependencies: 3", "dependencies: {a: b}", "x: [", "dependencies:\n- [a]",
     "a: &a [1]\nb: *a\ndependencies: []",
     "dependencies: " + "[" * 3000, "dependencies:\n- pip: 3\n", "\tdependencies:", "a: \x01",
     "a: !!python/object:os.x {}"],
)  # fmt: skip
def test_a_malformed_environment_is_one_clear_error(text: str) -> None:
    with pytest.raises(FileProblem, match=r"^environment\.yml"):
        project(text, "environment.yml")


def test_system_packages_are_debians() -> None:
    text = "FROM python:3.10\nRUN apt-get install -y libgl1 g++ libcudnn8 python3-pip\n"
    found = project(text, "Dockerfile")
    assert list(found.system_packages) == ["libgl1", "g++"]
    assert "CUDA's libraries" in found.answers[3].detail
    text = "dependencies:\n- ffmpeg=4\n- conda-forge::git\n"
    assert list(project(text, "environment.yml").system_packages) == ["ffmpeg", "git"]


# --- Dockerfile ----------------------------------------------------------------------------------------------------


def test_the_image_of_a_dockerfile_says_versions() -> None:
    cases = {
        "nvidia/cuda:11.8.0-cudnn8-devel-ubuntu22.04": {"cuda": "11.8", "cudnn": "8"},
        "nvidia/cuda:12.4.1-cudnn-runtime-ubuntu22.04": {"cuda": "12.4"},
        "nvcr.io/nvidia/cuda:12.1.1-base-ubuntu20.04@sha256:00": {"cuda": "12.1"},
        "mirror.example:5000/nvidia/cuda:11.7.1-runtime-ubi8": {"cuda": "11.7"},
        "pytorch/pytorch:2.0.1-cuda11.7-cudnn8-runtime": {
            "torch": "2.0.1", "cuda": "11.7", "cudnn": "8",
        },
        "python:3.10.12-slim-bookworm": {"python": "3.10"},
        "python:3": {},
        "python": {},
        "nvcr.io/nvidia/pytorch:23.05-py3": {},
        "ubuntu:22.04": {},
        "${BASE}": {},
        "python:${V:-3.9}-slim": {"python": "3.9"},
    }  # fmt: skip
    for image, expected in cases.items():
        text = f"FROM --platform=linux/amd64 {image} AS x\n"
        assert options(text, "Dockerfile") == expected, image


def test_commands_of_the_last_stage_are_read() -> None:
    text = """\
# syntax=docker/dockerfile:1
ARG TORCH=2.0.1
FROM python:3.9 AS other
RUN pip install other
FROM python:3.10 AS base
RUN --mount=type=cache,target=/x set -e; apt-get update && \\
    # a comment
    DEBIAN_FRONTEND=noninteractive apt-get install -y git=1:2 python3-dev \\

    libgl1 && rm -rf /x
FROM base
RUN python3 -m pip install -U --no-cache-dir "torch==${TORCH}" 'peft>=0.4,<1' $MORE
RUN <<END
uv pip install --system tqdm -i https://download.pytorch.org/whl/cu117
END
RUN echo pip && sudo pip3 install .[dev] && conda install x
CMD python train.py
"""
    found = project(text, "Dockerfile")
    assert list(found.packages) == ["peft<1,>=0.4", "tqdm", "x"]
    assert options(text, "Dockerfile") == {
        "python": "3.10", "torch": "2.0.1", "cuda": "11.7",
    }  # fmt: skip
    by_text = {item.text: item for item in found.answers}
    assert by_text["libgl1"].line == 6
    assert by_text["python3-dev"].detail == "the base has its Python"
    assert by_text["$MORE"].detail == "it depends on a variable without a value"
    assert "another stage" in by_text["other"].detail


def test_other_installers_in_a_dockerfile_are_read() -> None:
    text = """\
FROM continuumio/miniconda3
RUN ["pip", "install", "peft==0.4"]
RUN conda install -y -c pytorch -n base python=3.10 pytorch==2.0.1 pytorch-cuda=11.7 scipy
"""
    assert options(text, "Dockerfile") == {
        "python": "3.10", "torch": "2.0.1", "cuda": "11.7",
    }  # fmt: skip
    assert packages(text, "Dockerfile") == ["peft==0.4", "scipy"]
    for command, file in {
        "uv sync --frozen": "uv.lock",
        "poetry install": "pyproject.toml",
        "conda env create -f environment.yml": "environment.yml",
        "pip install -r requirements.txt": "requirements.txt",
    }.items():
        statements = read_project_file(f"FROM a\nRUN {command}\n", "Dockerfile")
        assert statements[-1].value == file, command


def test_a_later_command_of_a_dockerfile_wins() -> None:
    text = "FROM pytorch/pytorch:2.0.1-cuda11.7-cudnn8-runtime\nRUN pip install torch==2.1.0\n"
    assert options(text, "Dockerfile")["torch"] == "2.1.0"
    assert project(text, "Dockerfile").answers[0].detail == "Dockerfile:2 has 2.1.0"


def test_instructions_are_split_as_another_parser_does() -> None:
    text = 'FROM a:1 AS b\nRUN x \\\n  # note\n  y \\\n  z\nENV A=1\nCMD ["q"]\n'
    parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
    expected = [
        (item["startline"] + 1, item["instruction"])
        for item in parser.structure
        if item["instruction"] != "COMMENT"
    ]
    found = docker_file._instructions(text, "Dockerfile")
    assert [(number, name) for number, name, _ in found] == expected


@pytest.mark.parametrize(
    "text", ["", "# only a comment", "RUN x", "FROM", "FROM --platform=x", "?!"]
)
def test_what_is_no_dockerfile_is_refused(text: str) -> None:
    with pytest.raises(FileProblem, match=r"^Dockerfile"):
        project(text, "Dockerfile")


def test_variables_do_not_grow_without_end() -> None:
    lines = ["FROM a", "ENV A=xxxxxxxxxx"]
    lines += ["ENV A=$A$A$A$A$A$A$A$A"] * 30
    lines.append("RUN pip install a$A")
    answers = project("\n".join(lines), "Dockerfile").answers
    assert max(len(item.text) for item in answers) <= 200


# --- every kind ----------------------------------------------------------------------------------------------------


def test_a_file_of_another_kind_is_refused_with_the_kinds() -> None:
    for name in ("setup.py", "setup.cfg", "Pipfile.lock", "train.sh", "x.md"):
        with pytest.raises(FileProblem, match=r"requirements\.txt, pyproject\.toml"):
            read_project_file("", name)
    with pytest.raises(FileProblem, match=r"only a pyproject\.toml has extras"):
        read_project_file("a", "requirements.txt", ("x",))


def test_answers_never_contain_unprintable_text() -> None:
    found = project("a==1.0 --x \x1b[31m\u202e\n")
    assert [item.text for item in found.answers] == ["a==1.0 --x [31m"]
    with pytest.raises(FileProblem) as caught:
        project("a\x1b[31m\u202e b\n")
    assert "\x1b" not in str(caught.value)


def test_a_place_in_a_file_has_its_own_reason() -> None:
    place = "peft @ git+https://github.com/huggingface/peft@v1"
    holds = f'{place} ; sys_platform == "linux"'
    assert packages(holds) == [place]
    assert packages("https://host/v1.zip#egg=b") == ["b @ https://host/v1.zip"]
    hashed = answer("https://host/a-1.0.tar.gz#sha256=00")
    assert hashed.detail == "the lock computes its hash again"
    pinned = answer("requests==2.31.0 --hash=sha256:00")
    assert pinned.detail == "its hash is not compared: the lock has its own"
    assert packages("git+https://host/a/b@v1#egg=b[x]") == [
        "b[x] @ git+https://host/a/b@v1"
    ]
    reasons = {
        f'{place} ; sys_platform == "win32"': "does not hold",
        f'{place} ; python_version > "3.9"': "depends on the Python",
        f"{place} ; nonsense": "marker is not valid",
        "git+https://u:secret@host/a/b@v1": "password",
        "~/mylib": "a repository is written",
        "torch @ git+https://github.com/pytorch/pytorch@v2.1.0": "the stack decides",
        ".[train]": "the project itself",
        "https://host/a-1.0.tar.gz#subdirectory=py": "inside of an archive",
    }
    for text, reason in reasons.items():
        found = answer(text)
        assert found.outcome is Outcome.LEFT_OUT, text
        assert reason in found.detail, text
    on_a_python = project(f'{place} ; python_version > "3.9"', python="3.10")
    assert list(on_a_python.packages) == [place]


def test_a_given_package_replaces_a_place_of_a_file() -> None:
    given = Given(packages=("b @ ./b",))
    for text in ("b==1.0", "git+https://host/a/b@v1"):
        found = combine(read_project_file(text, "requirements.txt"), given)
        assert [item.detail for item in found.answers] == [
            "--package b @ ./b is given"
        ], text


def test_torchaudio_of_pytorchs_index_means_its_cuda() -> None:
    found = project("torchaudio==2.0.2+cu118")
    assert {name: choice.value for name, choice in found.options.items()} == {
        "cuda": "11.8"
    }
    assert list(found.packages) == ["torchaudio==2.0.2"]


def test_places_of_poetry_and_uv_keep_what_they_say() -> None:
    poetry = """
[tool.poetry.dependencies]
torch = {version = "2.4.1+cu118", source = "pytorch"}
inner = {path = "libs/inner", develop = true}
ssh = {git = "git@host:a/ssh.git", rev = "abc"}
far = {git = "https://host/a/far", tag = "v1", extras = ["x"], subdirectory = "py", markers = "sys_platform == 'linux'"}
"""
    assert options(poetry, "pyproject.toml") == {"torch": "2.4.1", "cuda": "11.8"}
    assert packages(poetry, "pyproject.toml") == [
        "inner @ ./libs/inner",
        "ssh @ git+ssh://git@host/a/ssh.git@abc",
        "far[x] @ git+https://host/a/far@v1#subdirectory=py",
    ]
    lock = f"""
[[package]]
name = "app"
source = {{ editable = "." }}
dependencies = [{{ name = "member" }}, {{ name = "inner" }}, {{ name = "far" }}]
[[package]]
name = "member"
source = {{ editable = "libs/member" }}
[[package]]
name = "inner"
source = {{ directory = "libs/inner" }}
[[package]]
name = "far"
source = {{ git = "https://host/a/far?subdirectory=py&tag=v1#{"a" * 40}" }}
"""
    assert packages(lock, "uv.lock") == [
        "inner @ ./libs/inner",
        f"far @ git+https://host/a/far@{'a' * 40}#subdirectory=py",
    ]
    details = [item.detail for item in project(lock, "uv.lock").answers]
    assert "mounted" in details[0]
