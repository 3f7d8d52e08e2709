"""After a refusal: which torch or Python is tried, how often uv is asked, and what the hint says. uv is a function."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from envbuilder.catalog.rows import Catalog
from envbuilder.errors import EngineError, NoStackError
from envbuilder.lock.creation import create_lock
from envbuilder.lock.index_answer import IndexAnswer
from envbuilder.lock.known_sources import NO_SOURCES
from envbuilder.lock.package_conflict import PackageOrigin, short_causes
from envbuilder.lock.project_page import ProjectPage, parse_project_page
from envbuilder.lock.refusal_search import MOST_QUESTIONS, RefusalSearch, is_left_behind
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Request, Stack
from envbuilder.processes import Completed
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import command, parse_request
from envbuilder.resolve.torch_ranges import TorchRange, torch_ranges

NO = Completed(returncode=1, stdout="", stderr="  × No solution: torch is another")
Answer = Callable[[str, list[str]], str]
"""Python and requirement lines → the releases that uv finds, as `kernels 2.0, torch 2.14.0`; "": none."""


class Index:
    """A uv over an index that a function plays, and what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, list[str]]] = []
        self.uv = Uv(program="uv", run=self.run)

    def run(self, argv: Sequence[str]) -> Completed:
        python = argv[argv.index("--python-version") + 1]
        lines = Path(argv[3]).read_text().splitlines()
        self.asked.append((python, lines))
        found = self.answer(python, lines)
        if not found:
            return NO
        text = 'lock-version = "1.0"\ncreated-by = "x"\n'
        for release in found.split(", "):
            name, version = release.split()
            text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        Path(argv[5]).write_text(text)
        return Completed(returncode=0, stdout="", stderr="")


def ranges_of(request: Request, facts: Catalog) -> list[TorchRange]:
    stack = resolve(request, facts)

    def resolve_as(changed: Request) -> tuple[str, Stack] | None:
        try:
            return command(changed, "lock"), resolve(changed, facts)
        except NoStackError:
            return None

    return list(torch_ranges(request, stack, facts, resolve_as))


def search_for(index: Index, request: Request, facts: Catalog) -> RefusalSearch:
    return RefusalSearch(
        uv=index.uv,
        known=NO_SOURCES,
        packages=request.packages,
        refused=resolve(request, facts),
    )


def pages(*files: str) -> dict[str, ProjectPage | None]:
    """The page of kernels: `0.16.0 <3.14`, each with a wheel for every Python that it allows."""
    rows = []
    for file in files:
        version, _, bounds = file.partition(" ")
        rows.append(
            f'{{"filename": "kernels-{version}-py3-none-any.whl", "requires-python": "{bounds}"}}'
        )
    return {
        "kernels": parse_project_page(f'{{"files": [{", ".join(rows)}]}}', "kernels")
    }


def range_in(lines: Sequence[str]) -> str:
    return next(
        line for line in lines if line.startswith("torch") and "vision" not in line
    )


# --- where it looks ------------------------------------------------------------------------------------------------


def test_the_torches_of_a_cuda_are_one_range(facts: Catalog) -> None:
    first = ranges_of(parse_request({"cuda": "13.0"}, ["kernels"]), facts)[0]
    assert first.specifier == f">={first.torches[-1]},<={first.torches[0]}"
    variant = first.variant(Version("2.14.0"))
    assert variant is not None
    assert variant.command == (
        "envbuilder lock --cuda 13.0 --torch 2.14.0 --package kernels"
    )
    assert variant.moved == ""


def test_the_newest_python_comes_first(facts: Catalog) -> None:
    request = parse_request({"cuda": "12.8"}, ["kernels"])
    ranges = ranges_of(request, facts)
    variants = [each.variant(each.torches[0]) for each in ranges]
    pythons = [str(variant.stack.python) for variant in variants if variant]
    assert pythons[:3] == ["3.14", "3.13", "3.12"]


def test_what_the_user_gave_is_moved_last_and_named(facts: Catalog) -> None:
    request = parse_request({"cuda": "12.8", "python": "3.14", "torch": "2.10"}, ["a"])
    variants = [each.variant(each.torches[-1]) for each in ranges_of(request, facts)]
    moved = [variant.moved for variant in variants if variant]
    assert moved[0] == ""
    assert moved[1] == "Python 3.14"
    assert any("torch 2.10" in text for text in moved)


# --- what it finds -------------------------------------------------------------------------------------------------


def test_one_question_finds_the_torch_of_a_package(facts: Catalog) -> None:
    request = parse_request({"cuda": "13.0"}, ["kernels"])
    newer = resolve(parse_request({"cuda": "13.0", "torch": "2.14.0"}), facts)
    names = {Requirement(line).name for line in newer.requirements}
    names |= {"setuptools"}
    names -= {"torch", "torchvision"}
    rest = ", ".join(f"{name} 99" for name in sorted(names))
    family = f"torch 2.14.0, torchvision {newer.torchvision}"
    index = Index(lambda python, lines: f"kernels 0.33.0, {family}, {rest}")
    search = search_for(index, request, facts)
    search.pages |= pages("0.33.0 ")
    hits = search.hits(ranges_of(request, facts))
    assert [hit.text for hit in hits] == [
        "kernels 0.33.0 with torch 2.14.0 for CUDA 13.0 on Python 3.14"
    ]
    assert len(index.asked) == 1
    # The package first, so that uv takes its newest release and then a torch.
    assert index.asked[0][1][0] == "kernels"
    assert range_in(index.asked[0][1]).startswith("torch>=")


def test_an_answer_for_another_stack_is_asked_again(facts: Catalog) -> None:
    request = parse_request({"cuda": "13.0"}, ["kernels"])
    index = Index(lambda python, lines: "kernels 0.33.0, torch 2.14.0")
    search = search_for(index, request, facts)
    search.pages |= pages("0.33.0 ")
    assert search.hits(ranges_of(request, facts))
    assert [range_in(lines)[:7] for _, lines in index.asked] == ["torch>=", "torch=="]


def test_a_newer_release_on_another_python_comes_first(facts: Catalog) -> None:
    def answer(python: str, lines: list[str]) -> str:
        if python == "3.14":
            return "kernels 0.16.0, torch 2.9.1"
        return "kernels 0.19.1, torch 2.10.0"

    request = parse_request({"cuda": "12.8"}, ["kernels"])
    search = search_for(Index(answer), request, facts)
    search.pages |= pages("0.16.0 ", "0.19.1 <3.14", "0.33.0 ")
    hits = search.hits(ranges_of(request, facts))
    assert [hit.variant.command for hit in hits] == [
        "envbuilder lock --cuda 12.8 --python 3.13 --package kernels",
        "envbuilder lock --cuda 12.8 --python 3.14 --torch 2.9.1 --package kernels",
    ]


def test_uv_is_asked_four_times_at_most(facts: Catalog) -> None:
    index = Index(lambda python, lines: "")
    request = parse_request({"cuda": "12.8"}, ["kernels"])
    search = search_for(index, request, facts)
    search.pages |= pages("1.0 ")
    assert search.hits(ranges_of(request, facts)) == []
    assert len(index.asked) == MOST_QUESTIONS
    assert [python for python, _ in index.asked] == ["3.14", "3.13", "3.12", "3.11"]


def test_a_package_that_is_not_there_is_not_searched(facts: Catalog) -> None:
    index = Index(lambda python, lines: "")
    request = parse_request({"cuda": "12.8"}, ["kernels"])
    search = search_for(index, request, facts)
    search.pages["kernels"] = ProjectPage(name="kernels", files=())
    assert search.hits(ranges_of(request, facts)) == []
    assert index.asked == []
    assert search.looks() == ["kernels is not on the index"]


def test_a_release_left_behind_is_no_hint(facts: Catalog) -> None:
    text = """{"files": [
      {"filename": "old-0.3-py3-none-any.whl", "upload-time": "2020-05-01T00:00:00Z"},
      {"filename": "old-0.9.tar.gz", "upload-time": "2024-05-01T00:00:00Z"}
    ]}"""
    page = parse_project_page(text, "old")
    assert page is not None
    stack = resolve(parse_request({"cuda": "11.7"}), facts)
    assert is_left_behind(page, Version("0.3"), Requirement("old"), stack)
    assert not is_left_behind(page, Version("0.9"), Requirement("old"), stack)
    assert not is_left_behind(page, Version("0.3"), Requirement("old<0.9"), stack)


# --- what the user reads -------------------------------------------------------------------------------------------


def test_the_hint_names_releases_and_whole_commands(facts: Catalog) -> None:
    def answer(python: str, lines: list[str]) -> str:
        if "kernels" not in lines:
            return "torch 2.10.0"
        return "" if python == "3.14" else "kernels 0.19.1, torch 2.10.0"

    request = parse_request({"cuda": "12.8"}, ["kernels"])
    with pytest.raises(NoStackError) as caught:
        create_lock(
            resolve(request, facts),
            uv=Index(answer).uv,
            catalog="x",
            command_for=lambda packages: "lock without it",
            origin=PackageOrigin(ranges=lambda: ranges_of(request, facts)),
        )
    assert caught.value.hint == (
        "try `envbuilder lock --cuda 12.8 --python 3.13 --package kernels` "
        "(kernels 0.19.1 with torch 2.10.0 for CUDA 12.8 on Python 3.13)"
    )


def test_to_leave_a_package_out_is_the_last_hint(facts: Catalog) -> None:
    request = parse_request({"cuda": "12.8"}, ["kernels"])
    with pytest.raises(NoStackError) as caught:
        create_lock(
            resolve(request, facts),
            uv=Index(lambda python, lines: "" if "kernels" in lines else "torch 2").uv,
            catalog="x",
            command_for=lambda packages: "lock without it",
            origin=PackageOrigin(ranges=lambda: ranges_of(request, facts)),
        )
    assert caught.value.hint == "try `lock without it` (without kernels)"


def test_ctrl_c_ends_the_search(facts: Catalog) -> None:
    def answer(python: str, lines: list[str]) -> str:
        raise KeyboardInterrupt

    request = parse_request({"cuda": "12.8"}, ["kernels"])
    index = Index(answer)
    search = search_for(index, request, facts)
    search.pages |= pages("1.0 ")
    with pytest.raises(KeyboardInterrupt):
        search.hits(ranges_of(request, facts))
    assert len(index.asked) == 1


def test_a_network_that_breaks_is_one_error(facts: Catalog) -> None:
    index = Index(lambda python, lines: "")
    index.uv = Uv(
        program="uv",
        run=lambda argv: Completed(returncode=2, stdout="", stderr="dns error"),
    )
    request = parse_request({"cuda": "12.8"}, ["kernels"])
    search = search_for(index, request, facts)
    search.pages |= pages("1.0 ")
    with pytest.raises(EngineError, match="cannot be reached"):
        search.hits(ranges_of(request, facts))
    assert search.questions == 1


def test_six_lines_of_a_derivation_are_shown() -> None:
    lines = ["error: No solution found", "  cause: Because all of:"]
    for number in range(30):
        lines.append(f"             kernels<={number}")
        text = (
            f"And because kernels=={number} depends on torch=={number}, we can conclude"
        )
        lines.append(f"         {text} that all of:")
    short = short_causes(IndexAnswer(document=None, stderr="\n".join(lines)))
    assert short[:-1] == [
        f"kernels=={number} depends on torch=={number}" for number in range(24, 30)
    ]
    assert short[-1] == "`--explain` prints all 62 lines of uv's derivation"
    few = IndexAnswer(document=None, stderr="error: No\n  cause: Because a needs b")
    assert short_causes(few) == ["No", "Because a needs b"]
