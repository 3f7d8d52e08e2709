"""Earlier findings of the fuzzer, one test each."""

import json
import shlex
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from envbuilder import grammar
from envbuilder.errors import UsageError
from envbuilder.render import project
from envbuilder.render.targets import render_targets
from envbuilder.resolve.parsers import parse_package

from . import harmless
from .sandbox import Engine, sandbox
from .shapes import shape
from .targets import IMAGE, PARSED, PRESET, PRESETS, ROWS


def rendered(target: str, **settings: str) -> dict[str, str]:
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    return dict(render_targets(project.describe(PARSED, settings=named), target).files)


@pytest.mark.parametrize("name", ["on", "no", "true", "null", "y"])
@pytest.mark.parametrize(
    ("target", "setting"), [("workflow", "make"), ("kubernetes", "name")]
)
def test_no_name_is_a_truth_value_of_yaml(target: str, setting: str, name: str) -> None:
    with pytest.raises(UsageError):
        rendered(target, **{setting: name})


def test_a_make_target_that_is_named_twice_is_one_job() -> None:
    text = rendered("workflow", make="lint test lint")[".github/workflows/ci.yml"]
    assert shape("ci.yml", text) == shape(
        "ci.yml", rendered("workflow", make="a b")[".github/workflows/ci.yml"]
    )


def test_make_target_is_at_most_a_yaml_key_long() -> None:
    with pytest.raises(UsageError, match="cannot be a make target"):
        rendered("workflow", make="x" * 2000)


@pytest.mark.parametrize(
    "source", ["-r https://x.example", "--index-url=https://x.example", "-"]
)
def test_ci_requirement_cannot_be_a_pip_option(source: str) -> None:
    with pytest.raises(UsageError, match="cannot be used in a workflow"):
        rendered("workflow", envbuilder=source)


@pytest.mark.parametrize(
    "arguments", ["--x '$(OMP_NUM_THREADS)'", "--x '$$'", "--x '$HOME'"]
)
def test_kubernetes_expands_nothing_in_the_arguments(arguments: str) -> None:
    """It reads $(NAME) and $$ in `args`."""
    files = rendered("kubernetes", arguments=arguments)
    option, value = shlex.split(arguments)
    for name in ("kubernetes/job.yaml", "kubernetes/trainjob.yaml"):
        words = texts(files[name])
        assert words[words.index(option) + 1] == value.replace("$", "$$")


def texts(document: str) -> list[str]:
    found: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, str):
            found.append(value)

    for part in yaml.safe_load_all(document):
        collect(part)
    return found


@pytest.mark.parametrize(
    "arguments", ["--x 'a|b'", "--x '`'", "--x '``<b>`'", "--x '[a](b)'", "--x 'a\\|b'"]
)
def test_arguments_are_one_piece_of_code_in_the_readme(arguments: str) -> None:
    twin = rendered("kubernetes", **harmless.settings({"arguments": arguments}))
    text = rendered("kubernetes", arguments=arguments)["kubernetes/README.md"]
    assert shape("README.md", text) == shape("README.md", twin["kubernetes/README.md"])


def test_undecodable_file_name_is_escaped_in_json() -> None:
    """Bytes of a command line that are no UTF-8 come as halves of surrogate pairs."""
    with sandbox() as box:
        box.fresh()
        answer = box.run("lock", "--check", "--output", "\udc80", "--json")
    assert answer.code == 2
    assert "the lock \\udc80 does" in json.loads(answer.out)["error"]


@pytest.mark.parametrize(
    "text",
    ["0==A", "x==1.0-", "x~=1", "x<1.*", "x===1,=== 2", "x>=1+local", "x==1.0.x"],
)
def test_a_requirement_is_one_for_packaging_too(text: str) -> None:
    assert not grammar.matches(grammar.Requirement, text)
    with pytest.raises(ValueError, match="a package is a name"):
        parse_package(text)


@pytest.mark.slow
@given(st.from_regex(grammar.Requirement.__metadata__[0].pattern))
def test_every_requirement_of_the_grammar_can_be_read(text: str) -> None:
    assert Requirement(text).name


@pytest.mark.slow
@given(st.from_regex(grammar.Specifier.__metadata__[0].pattern))
def test_every_bound_of_the_grammar_can_be_read(text: str) -> None:
    assert len(SpecifierSet(text)) >= (1 if text else 0)


def test_the_last_day_that_there_is_has_no_next() -> None:
    document = json.loads(PRESETS[PRESET])
    document["stack"]["as_of"] = "9999-12-31"
    with sandbox() as box:
        (box.fresh() / "x.lock").write_text(json.dumps(document))
        answer = box.run("lock", "--check", "--output", "x.lock")
    assert answer.code == 6, "the index is asked, which is not there"
    assert "9999-12-31T00:00:00Z" in answer.started[0]


@pytest.mark.slow
def test_first_possible_day_has_no_predecessor() -> None:
    row = next(row for row in ROWS["transformers.json"] if row.get("next_released"))
    with sandbox() as box:
        facts = box.fresh() / "own" / "facts"
        facts.mkdir(parents=True)
        document = {
            "date": "2026-11-24",
            "rows": [{**row, "next_released": "0001-01-01"}],
        }
        (facts / "transformers.json").write_text(json.dumps(document))
        answer = box.run(
            "resolve",
            "--torch",
            row["torch"],
            "--python",
            row["python"],
            "--catalog",
            "own",
        )
    assert answer.code in (0, 4)


def test_undecodable_image_output_is_escaped_in_json() -> None:
    with sandbox() as box:
        box.fresh()
        box.engine = Engine(
            images={IMAGE.id: replace(IMAGE, entrypoint=("\ud800",), user="\ud800")}
        )
        answer = box.run("inspect", IMAGE.id, "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["config"]["user"] == "\\ud800"
