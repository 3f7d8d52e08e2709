"""What is said of a package before anything is resolved: out of the catalog, or out of its page and one METADATA."""

import pytest
from packaging.requirements import Requirement

from envbuilder.catalog.rows import Catalog
from envbuilder.lock.index_client import IndexClient
from envbuilder.lock.package_look import look_at, look_notes, unmet_pin
from envbuilder.lock.project_page import parse_project_page
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_metadata import parse_metadata
from envbuilder.model import Stack
from envbuilder.network import Network
from envbuilder.processes import Completed
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request
from envbuilder.resolve.known_packages import unknown_packages

UV = Uv(
    program="uv",
    run=lambda argv: Completed(returncode=0, stdout="", stderr=""),
    index_url="http://127.0.0.1:9/simple",
    client=IndexClient(network=Network()),
)


def stack_for(facts: Catalog, *packages: str, **options: str) -> Stack:
    return resolve(parse_request({"cuda": "13.0", **options}, packages), facts)


def file(name: str, bounds: str = "") -> str:
    return f'{{"filename": "{name}", "requires-python": "{bounds}"}}'


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([file("x-1.0-py3-none-any.whl")], ""),
        ([file("x-1.0.tar.gz")], "x 1.0 has no wheel, only a source package"),
        (
            [file("x-1.0-py3-none-any.whl", "<3.13")],
            "x 1.0 needs Python <3.13, and this is Python 3.14",
        ),
        (
            [
                file("x-1.0-cp310-cp310-manylinux_2_17_x86_64.whl"),
                file("x-1.0-cp312-cp312-manylinux_2_17_x86_64.whl"),
            ],
            "x 1.0 has no wheel for Python 3.14 on linux/amd64: they are for Python 3.10 to 3.12",
        ),
        (
            [file("x-1.0-cp314-cp314-win_amd64.whl")],
            "x 1.0 has no wheel for Python 3.14 on linux/amd64",
        ),
        ([], "x is not on the index"),
    ],
)
def test_a_page_tells_what_speaks_against_a_package(
    facts: Catalog, files: list[str], says: str
) -> None:
    page = parse_project_page(f'{{"files": [{", ".join(files)}]}}', "x")
    assert page is not None
    look = look_at(UV, stack_for(facts), Requirement("x"), page)
    assert look is not None
    assert look.text == says


def test_metadata_names_the_torch_that_a_package_needs(facts: Catalog) -> None:
    stack = stack_for(facts)
    metadata = parse_metadata(
        b"Requires-Dist: torch==1.0; extra == 'old'\nRequires-Dist: torch==2.14.0\n"
    )
    assert unmet_pin(metadata, stack) == (
        f"needs torch==2.14.0, and this is torch {stack.torch}"
    )
    fits = parse_metadata(f"Requires-Dist: torch=={stack.torch}\n".encode())
    assert unmet_pin(fits, stack) == ""


def test_an_index_that_is_not_reached_is_said_once(facts: Catalog) -> None:
    wanted = [Requirement("a"), Requirement("b")]
    notes = list(look_notes(UV, stack_for(facts), wanted, seconds=3))
    assert len(notes) == 1
    assert notes[0].startswith("a, b not looked at: ")


def test_only_unknown_packages_are_looked_at(facts: Catalog) -> None:
    packages = [
        "vllm",
        "wandb",
        "numpy",
        "accelerate",
        "x @ https://h/x-1-py3-none-any.whl",
        "old; python_version < '3'",
    ]
    request = parse_request({"cuda": "13.0"}, packages)
    unknown = unknown_packages(request, resolve(request, facts), facts)
    assert [str(requirement) for requirement in unknown] == ["wandb"]
