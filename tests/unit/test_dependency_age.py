"""Lines on dependencies that nobody named: pre-releases, and releases that are years old. uv is a function."""

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from envbuilder.lock.dependency_age import dependency_notes
from envbuilder.lock.lock_file import parse_lock
from envbuilder.lock.uv_compile import Uv
from envbuilder.lock.wheel_metadata import MetadataAnswer, parse_metadata
from envbuilder.processes import Completed

PRESET = (
    Path(__file__).parents[2]
    / "docker/images/cu117-torch2.0.1-py3.9-debian11/envbuilder.lock"
)
STACK = replace(parse_lock(PRESET.read_text(), source="x").stack, extras=("mine",))
LOCKED = {
    "mine": ("1.0", "2018-01-01"),
    "mid": ("1.0", "2024-01-01"),
    "numpy": ("1.0", "2006-01-01"),
    "nvidia-cuda-runtime": ("11.7.99", "2018-01-01"),
    "antlr": ("4.9.3", "2021-11-06"),
    "early": ("2.0rc1", "2025-01-01"),
    "fresh": ("1.0", "2024-01-01"),
    "of-the-stack": ("1.0", "2000-01-01"),
}
NEWEST = {
    "antlr": ("4.13.2", "2024-08-03"),
    "early": ("2.0rc1", "2025-01-01"),
    "fresh": ("2.0", "2025-01-01"),
}


def document(releases: dict[str, tuple[str, str]]) -> str:
    text = 'lock-version = "1.0"\ncreated-by = "x"\n'
    for name, (version, day) in releases.items():
        text += f'[[packages]]\nname = "{name}"\nversion = "{version}"\n'
        url = f"http://127.0.0.1:9/{name}-{version}-py3-none-any.whl"
        text += (
            f'wheels = [{{ url = "{url}", upload-time = {day}T00:00:00Z, size = 1 }}]\n'
        )
    return text


def notes(asked: list[str], stack: Any = STACK) -> list[str]:
    def run(argv: Sequence[str]) -> Completed:
        asked.extend(Path(argv[3]).read_text().split())
        Path(argv[5]).write_text(document(NEWEST))
        return Completed(returncode=0, stdout="", stderr="")

    uv = Uv(program="uv", run=run)
    metadata = parse_metadata(b"Requires-Dist: antlr==4.9.*\nRequires-Dist: mid\n")
    middle = parse_metadata(b"Requires-Dist: early\nRequires-Dist: fresh<2\n")
    answer = MetadataAnswer(by_package={"mine": metadata, "mid": middle})
    locked = tomllib.loads(document(LOCKED))
    return list(dependency_notes(uv, stack, locked, answer))


def test_old_dependencies_and_pre_releases_get_a_line_each() -> None:
    asked: list[str] = []
    assert notes(asked) == [
        "a pre-release of a dependency is locked: early 2.0rc1 (mid needs early)",
        "a dependency is locked in a release that is years old: antlr 4.9.3 (2021-11-06), not 4.13.2 (2024-08-03) "
        "(mine needs antlr==4.9.*)",
    ]
    # Neither what is named, nor what torch pins, nor what the stack has without the package.
    assert asked == ["antlr", "early", "fresh", "mid"]


def test_a_stack_without_packages_is_not_looked_at() -> None:
    asked: list[str] = []
    assert notes(asked, replace(STACK, extras=())) == []
    assert asked == []
