"""What `lock --check` reports when the index has moved; uv is played by a function that answers from a lock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from envbuilder.errors import EngineError
from envbuilder.lock.drift import find_drift
from envbuilder.lock.lock_file import LOCK_FILE, parse_lock
from envbuilder.lock.uv_compile import Uv
from envbuilder.model import Lock, Wheel
from envbuilder.processes import Completed

PRESET = (
    Path(__file__).parents[2]
    / "docker"
    / "images"
    / "cu117-torch2.0.1-py3.9-debian11"
    / LOCK_FILE
)
LOCK = parse_lock(PRESET.read_text(encoding="utf-8"), source=str(PRESET))
SIX = next(wheel for wheel in LOCK.wheels if wheel.name == "six")
Change = Callable[[Wheel], Wheel | None]


def row(wheel: Wheel) -> str:
    return (
        f'[[packages]]\nname = "{wheel.name}"\nversion = "{wheel.version}"\n'
        f'wheels = [{{ name = "{wheel.file}", url = "https://index.invalid/{wheel.file}", size = {wheel.size}, '
        f'hashes = {{ sha256 = "{wheel.sha256}" }} }}]\n'
    )


def index(
    change: Change,
    *,
    yanked: Mapping[str, str] | None = None,
    resolved: Change | None = None,
) -> Uv:
    """A uv whose index has the locked files after `change`; a resolution takes them after `resolved`, too."""

    def run(argv: Sequence[str]) -> Completed:
        alone = "--no-deps" in argv
        lines = Path(argv[3]).read_text(encoding="utf-8").split()
        wheels = [other for wheel in LOCK.wheels if (other := change(wheel))]
        if alone:
            offered = {f"{wheel.name}=={wheel.version}" for wheel in wheels}
            missing = [line for line in lines if line not in offered]
            if missing:
                stderr = (
                    "× No solution found\n  ╰─▶ Because there is no version of\n"
                    f"      {missing[0]} and you require it"
                )
                return Completed(returncode=1, stdout="", stderr=stderr)
            wheels = [
                wheel for wheel in wheels if f"{wheel.name}=={wheel.version}" in lines
            ]
        elif resolved:
            wheels = [other for wheel in wheels if (other := resolved(wheel))]
        text = 'lock-version = "1.0"\ncreated-by = "test"\n' + "".join(map(row, wheels))
        Path(argv[5]).write_text(text, encoding="utf-8")
        return Completed(
            returncode=0,
            stdout="",
            stderr="\n".join(yanked.values()) if yanked and alone else "",
        )

    return Uv(program="uv", run=run)


def same(wheel: Wheel) -> Wheel:
    return wheel


def only(name: str, **change: object) -> Change:
    return lambda wheel: replace(wheel, **change) if wheel.name == name else wheel  # type: ignore[arg-type]


def without(name: str) -> Change:
    return lambda wheel: None if wheel.name == name else wheel


def problems(uv: Uv, lock: Lock = LOCK) -> list[str]:
    return [drift.problem for drift in find_drift(lock, uv)]


def test_an_unchanged_index_has_no_drift() -> None:
    assert find_drift(LOCK, index(same)) == []


def test_a_removed_release_is_named_once() -> None:
    assert problems(index(without("six"))) == ["six 1.17.0 is no longer on the index"]


def test_two_removed_releases_are_both_named() -> None:
    def change(wheel: Wheel) -> Wheel | None:
        return None if wheel.name in ("six", "tqdm") else wheel

    assert [line.split()[0] for line in problems(index(change))] == ["six", "tqdm"]


def test_a_replaced_file_is_named_with_both_hashes() -> None:
    found = problems(index(only("six", sha256="f" * 64)))
    assert found == [
        f"{SIX.file} was replaced: sha256 {SIX.sha256[:12]}… is locked, the index has ffffffffffff…"
    ]


def test_file_with_a_different_tag_is_named() -> None:
    found = problems(index(only("six", file="six-1.17.0-py3-none-any.whl")))
    assert found == [f"{SIX.file} is no longer on the index"]


def test_a_yanked_release_is_named_with_the_reason() -> None:
    warning = 'warning: `six==1.17.0` is yanked (reason: "breaks on `Windows`")'
    assert problems(index(same, yanked={"six": warning})) == [
        "six 1.17.0 was yanked: breaks on `Windows`"
    ]


def test_a_yanked_release_without_a_reason_is_named() -> None:
    assert problems(
        index(same, yanked={"six": "warning: `six==1.17.0` is yanked"})
    ) == ["six 1.17.0 was yanked"]


def test_a_late_release_is_reported_with_the_day() -> None:
    newer = only(
        "six", version=Version("1.18.0"), file="six-1.18.0-py2.py3-none-any.whl"
    )
    found = problems(index(same, resolved=newer))
    assert found == [
        "six 1.17.0 is locked; as of 2025-03-20 the index now gives 1.18.0"
    ]


def test_packages_that_came_and_went_are_named() -> None:
    less = replace(
        LOCK, wheels=tuple(wheel for wheel in LOCK.wheels if wheel.name != "six")
    )
    assert problems(index(same), less) == ["six 1.17.0 is needed now and not locked"]
    assert problems(index(same, resolved=without("six"))) == [
        "six 1.17.0 is locked and no longer needed"
    ]


def test_unreachable_index_is_not_drift() -> None:
    broken = Uv(
        program="uv",
        run=lambda argv: Completed(returncode=2, stdout="", stderr="error: dns error"),
    )
    with pytest.raises(EngineError, match="cannot be reached"):
        find_drift(LOCK, broken)


def test_an_answer_that_names_no_package_is_an_error() -> None:
    broken = Uv(
        program="uv",
        run=lambda argv: Completed(
            returncode=2, stdout="", stderr="error: uv is broken"
        ),
    )
    with pytest.raises(EngineError, match="gave no answer"):
        find_drift(LOCK, broken)
