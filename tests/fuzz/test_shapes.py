"""The properties can fail: what is added to a rendered file changes its shape; the sandbox sees what it should."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from marks import few

from envbuilder import cli, processes
from envbuilder.model import Context
from envbuilder.render import project, targets
from envbuilder.render.context import place_of, render_context
from envbuilder.render.settings_file import settings_text
from envbuilder.render.targets import render_targets

from . import harmless, reports
from .sandbox import Answer, Finding, Sandbox, check, sandbox
from .shapes import shape
from .targets import PARSED, check_renders, same_shape


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    """Everything that is rendered of a lock, and of its settings."""
    names = list(targets.TARGETS)
    described = project.describe(PARSED, settings={"arguments": "--epochs 3"})
    found = {**render_context(PARSED).files, **render_targets(described, *names).files}
    return found | {"envbuilder.toml": settings_text(PARSED, names, {"make": "lint"})}


def named(files: dict[str, str], ending: str) -> str:
    return next(
        text
        for name, text in files.items()
        if name.endswith(ending) and not name.startswith("payload/")
    )


@pytest.mark.parametrize(
    ("name", "before", "after"),
    few(
        [
            (
                f"{place_of(PARSED.stack)}/Dockerfile",
                "USER 1000\n",
                "USER 1000\nRUN id\n",
            ),
            (f"{place_of(PARSED.stack)}/Dockerfile", "USER 1000\n", "USER 1000 0\n"),
            (f"{place_of(PARSED.stack)}/Dockerfile", "useradd ", "id; useradd "),
            (f"{place_of(PARSED.stack)}/Dockerfile", "useradd ", "$(id) useradd "),
            (f"{place_of(PARSED.stack)}/Dockerfile", "useradd ", "useradd --x "),
            (
                f"{place_of(PARSED.stack)}/Dockerfile",
                "# cu117",
                "# syntax=x.example/y\n# cu117",
            ),
            (f"{place_of(PARSED.stack)}/Dockerfile", 'title="', 'other="a" title="'),
            (
                f"{place_of(PARSED.stack)}/requirements.txt",
                "torch==",
                "--index-url https://x.example\ntorch==",
            ),
            (
                f"{place_of(PARSED.stack)}/requirements.txt",
                "torch==2.0.1",
                "torch @ https://x.example/t.whl",
            ),
            (
                f"{place_of(PARSED.stack)}/envbuilder.lock",
                '"platform"',
                '"more": 1, "platform"',
            ),
            ("compose.yaml", "  accept:\n", "  more:\n    image: a\n  accept:\n"),
            (
                "compose.yaml",
                "network_mode: none",
                "network_mode: none\n    privileged: true",
            ),
            ("compose.yaml", "${TRAIN_IMAGE:-", "${TRAIN_IMAGE:-$HOME"),
            (".env.example", "# RUN=latest", "RUN=latest"),
            ("docker-bake.hcl", 'group "default"', 'target "more" {}\ngroup "default"'),
            ("docker-bake.hcl", 'context = "', 'context = "${HOME}'),
            (
                ".devcontainer/devcontainer.json",
                '"init": true',
                '"init": true, "privileged": true',
            ),
            (
                ".devcontainer/devcontainer.json",
                "sh .devcontainer/image",
                "$(id) .devcontainer/image",
            ),
            (".devcontainer/check", "set -eu", "set -eu; id"),
            (".github/workflows/ci.yml", "permissions: {}", "permissions: {}\nenv: {}"),
            (".github/workflows/ci.yml", "envbuilder render --check", "${{ a }}"),
            ("kubernetes/job.yaml", "name: envbuilder-train", "name: true"),
            ("kubernetes/job.yaml", '- "3"', '- "$(A)"'),
            ("kubernetes/job.yaml", '- "3"', '- "3"\n          - "4"'),
            ("kubernetes/README.md", "`--epochs 3`", "`--epochs` [3](x)"),
            (
                "slurm/train.sbatch",
                "#SBATCH --requeue",
                "#SBATCH --requeue\n#SBATCH --uid=0",
            ),
            ("slurm/train.sbatch", "--epochs 3", "--epochs;3"),
            ("envbuilder.toml", "[render]", '[render]\nmore = "a"'),
        ],
        fast=10,
    ),
)
def test_additions_change_the_shape(
    files: dict[str, str], name: str, before: str, after: str
) -> None:
    text = files[name]
    assert before in text
    changed = text.replace(before, after, 1)
    try:
        assert shape(name, changed) != shape(name, text)
    except ValueError:
        return  # it is not of its language any more, which is a finding too


@pytest.mark.slow
def test_rendered_files_have_the_shape_of_harmless_ones() -> None:
    assert check_renders(
        PARSED, tag="registry.example/a:1", settings={"nodes": "3", "make": "lint test"}
    )


def test_different_shape_is_a_finding(files: dict[str, str]) -> None:
    twin = Context(files={"compose.yaml": files["compose.yaml"]})
    more = Context(files={"compose.yaml": files["compose.yaml"] + "x-more: 1\n"})
    same_shape(twin, twin)
    with pytest.raises(Finding, match=r"shape: compose\.yaml"):
        same_shape(more, twin)
    with pytest.raises(Finding, match="0 files, 1 in the harmless render"):
        same_shape(Context(files={}), twin)


def test_harmless_lock_keeps_only_the_number_of_entries() -> None:
    twin = harmless.lock(PARSED)
    assert len(twin.wheels) == len(PARSED.wheels)
    assert twin.stack.base.system_packages == ("aa",) * len(
        PARSED.stack.base.system_packages
    )
    assert not {wheel.name for wheel in twin.wheels} & {
        wheel.name for wheel in PARSED.wheels
    }


# --- the sandbox ---------------------------------------------------------------------------------------------------


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with sandbox() as made:
        made.fresh()
        yield made


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(1, "", "error: a bug in envbuilder: ValueError: x", ()), "exit 1"),
        (Answer(9, "", "", ()), "exit 9"),
        (Answer(-11, "", "", ()), "exit -11"),
        (
            Answer(0, "Traceback (most recent call last):", "", ()),
            "traceback on stdout",
        ),
        (Answer(2, "", "a\x1b]0;t", ()), "control character on stderr"),
        (Answer(0, "a\x9bb", "", ()), "control character on stdout"),
        (Answer(0, "a\u202eb", "", ()), "control character"),
        (Answer(0, "a\rb", "", ()), "control character"),
    ],
)
def test_forbidden_output_is_a_finding(answer: Answer, kind: str) -> None:
    with pytest.raises(Finding, match=kind):
        check(answer)


def test_exit_code_1_is_allowed_for_stale_files_only() -> None:
    check(Answer(1, "", "stale: compose.yaml", ()), may_be_stale=True)
    with pytest.raises(Finding, match="exit 1"):
        check(Answer(1, "", "stale: compose.yaml", ()))
    with pytest.raises(Finding, match="exit 1"):
        check(Answer(1, "", "error: a bug in envbuilder", ()), may_be_stale=True)


def allocate() -> None:
    assert len(bytearray(400 << 20)) > 0


def spin() -> None:
    while True:
        pass


ACTIONS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: Path("/tmp/envbuilder-fuzz-outside").write_text("x"),
        "escape: open '/tmp/envbuilder-fuzz-outside'",
    ),
    (lambda: Path("../../outside").mkdir(), "escape: os.mkdir"),
    (lambda: os.rename("a", "/tmp/envbuilder-fuzz-outside"), "escape: os.rename"),  # noqa: PTH104
    (lambda: os.system("true"), "escape: os.system"),
    (allocate, "memory: "),
]


@pytest.mark.parametrize(("action", "kind"), few(ACTIONS))
def test_writes_outside_the_directory_are_refused(
    box: Sandbox,
    action: Callable[[], object],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @click.command()
    def command() -> None:
        action()

    monkeypatch.setattr(cli, "cli", command)
    with pytest.raises(Finding, match=kind):
        box.run()
    assert not Path("/tmp/envbuilder-fuzz-outside").exists()


@pytest.mark.slow
def test_a_case_that_does_not_end_is_ended(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{Sandbox.__module__}._PATIENCE", 0.2)
    with pytest.raises(Finding, match="hang"), box.watched():
        spin()


def test_programs_are_replaced_by_stand_ins(box: Sandbox) -> None:
    assert processes.run(["uv", "--version"]).returncode == 2
    assert box.started == [("uv", "--version")]


def test_files_of_the_user_are_not_read(box: Sandbox) -> None:
    assert Path.home().is_relative_to(box.place)
    assert Path.cwd() == box.folder
    assert sys.dont_write_bytecode


# --- reports -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "text"),
    [
        ("html", "<script>x</script>"),
        ("html", "<p onclick='x'>"),
        ("html", "<a href='javascript:x'>"),
        ("xml", "<testsuites><x/></testsuites>"),
        ("xml", "<a>"),
        ("md", "<img src=x onerror=x>"),
        ("md", "![a](http://x.example/a.png)\n"),
        ("json", "{"),
        ("md", "a\x1b[2J"),
        ("html", "a\u202e"),
    ],
)
def test_active_content_in_a_report_is_a_finding(ending: str, text: str) -> None:
    with pytest.raises(Finding, match="report"):
        reports.check(ending, text)


@pytest.mark.parametrize("ending", reports.ENDINGS)
def test_report_of_a_real_receipt_is_not_a_finding(ending: str) -> None:
    from envbuilder.acceptance.report import form_of

    for receipt in reports.SAMPLES[:3]:
        reports.check(ending, form_of(f".{ending}")(receipt))
