"""The page to pick from: what it looks up is what the resolver says, cell by cell."""

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest
import samples
from presets import read_preset

from envbuilder import serialize
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError, UsageError
from envbuilder.format.page import dockerfile, document, receipt_summary
from envbuilder.format.page.axes import Axis, Picked, line, request_of
from envbuilder.format.page.companions_shown import CompanionShelf
from envbuilder.format.page.grid import Grid, compute
from envbuilder.model import BaseSource, Lock, Stack
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_request

PRESETS = sorted(
    (Path(__file__).parents[2] / "docker" / "images").glob("*/envbuilder.lock")
)
LARGEST = 1_500_000


@pytest.fixture(scope="module")
def few(facts: Catalog) -> Catalog:
    """What was built for CUDA 11.7, and three GPUs: enough where the whole grid would only take longer."""
    builds = tuple(
        build for build in facts.torch if line(build.cuda) == line(facts.torch[0].cuda)
    )
    return replace(facts, torch=builds, gpus=facts.gpus[5:8])


@pytest.fixture(scope="module")
def small(few: Catalog) -> Grid:
    return compute(few)


def lock_of(path: Path) -> Lock:
    return read_preset(path)


def said(picked: Picked, facts: Catalog) -> Stack | NoStackError:
    try:
        return resolve(request_of(picked), facts)
    except NoStackError as error:
        return error


def words_of(picked: Picked, grid: Grid) -> list[str]:
    """The options that these choices are on the command line."""
    return [
        axis.choices[axis.place(picked[axis.name])].words
        for axis in grid.axes
        if axis.name in picked
    ]


def compare(picked: Picked, grid: Grid, facts: Catalog) -> None:
    """The page's answer to some choices with the resolver's, whole."""
    answer, clashes = said(picked, facts), grid.clashes_in(picked)
    if isinstance(answer, Stack):
        assert grid.answer(picked) == answer
        assert clashes == []
        return
    assert grid.answer(picked) is None
    conflict = [
        f"--{name} {value}" for name, value in answer.conflict if name != "platform"
    ]  # it is always amd64
    [clash] = [
        one for one in clashes if sorted(words_of(one.picked, grid)) == sorted(conflict)
    ]
    assert clash.reasons == answer.plain_reasons
    if clash.picked == picked:
        assert clash.suggestions == answer.suggestions


def pairs_of(axes: tuple[Axis, ...]) -> Iterator[Picked]:
    for one, two in combinations(axes, 2):
        for a, b in product(one.choices, two.choices):
            yield {
                axis.name: choice.value
                for axis, choice in ((one, a), (two, b))
                if choice.value
            }


@pytest.mark.slow
def test_every_choice_and_every_pair_is_the_resolvers(
    grid: Grid, facts: Catalog
) -> None:
    cells = {tuple(picked.items()): picked for picked in pairs_of(grid.axes)}
    assert len(cells) > 1500
    for picked in cells.values():
        compare(picked, grid, facts)


@pytest.mark.slow
def test_cells_at_random_are_the_resolvers(grid: Grid, facts: Catalog) -> None:
    chance = random.Random(8)
    for _ in range(500):
        some = chance.sample(grid.axes, chance.randint(3, len(grid.axes)))
        compare(
            {axis.name: chance.choice(axis.choices[1:]).value for axis in some},
            grid,
            facts,
        )


@pytest.mark.slow
def test_cells_that_fit_are_the_resolvers(grid: Grid, facts: Catalog) -> None:
    """Choices at random mostly clash; these walk where the page offers a way."""
    chance = random.Random(11)
    for _ in range(200):
        picked: dict[str, str] = {}
        for axis in chance.sample(grid.axes, len(grid.axes)):
            more = {**picked, axis.name: chance.choice(axis.choices[1:]).value}
            picked = more if grid.answer(more) else picked
        compare(picked, grid, facts)


def test_a_clash_is_minimal(small: Grid) -> None:
    check_clashes(small)


@pytest.mark.slow
def test_every_clash_is_minimal(grid: Grid) -> None:
    check_clashes(grid)


def check_clashes(grid: Grid) -> None:
    assert grid.clashes
    for clash in grid.clashes:
        assert grid.answer(clash.picked) is None
        for name in clash.picked:
            assert grid.answer(
                {other: value for other, value in clash.picked.items() if other != name}
            )


@pytest.mark.slow
def test_suggestion_selects_the_stack_of_its_command(
    grid: Grid, facts: Catalog
) -> None:
    """But for torch: the page chooses its line, and a line means its best release."""
    commands = {command for clash in grid.clashes for command in clash.suggestions}
    assert len(commands) > 50
    for command in commands:
        picked = document.picked_of(command, grid.axes)
        if (
            "--platform linux/arm64" in command
        ):  # for a Jetson; the page is about amd64, and only shows the command
            assert picked is None
            continue
        assert picked is not None, command
        words = command.split()[2:]
        pairs = {
            name: value
            for name, value in zip(words[::2], words[1::2], strict=True)
            if value != "any"
        }
        wanted = parse_request(
            {name.removeprefix("--"): value for name, value in pairs.items()}
        )
        chosen, resolved = grid.answer(picked), resolve(wanted, facts)
        assert chosen is not None, command
        assert (line(chosen.torch), chosen.cuda, chosen.python) == (
            line(resolved.torch),
            resolved.cuda,
            resolved.python,
        )
        assert chosen == resolved or chosen.torch > resolved.torch


@pytest.mark.slow
def test_command_with_unavailable_values_selects_nothing(grid: Grid) -> None:
    for command in (
        "envbuilder resolve --platform linux/arm64",
        "envbuilder resolve --cuda 99.9",
        "envbuilder resolve --x",
    ):
        assert document.picked_of(command, grid.axes) is None


# --- Dockerfiles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.parent.name)
def test_a_dockerfile_with_its_lock_is_the_committed_one(path: Path) -> None:
    lock = lock_of(path)
    assert (
        dockerfile.text_of(lock.stack, lock, lock.catalog)
        == (path.parent / "Dockerfile").read_text()
    )


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.parent.name)
def test_without_a_lock_only_locked_values_are_left_out(path: Path) -> None:
    lock = lock_of(path)
    whole = (path.parent / "Dockerfile").read_text()
    whole = re.sub(r"[0-9]+ wheels, [0-9]+ MB to download -*", "N", whole)
    whole = re.sub(r'lock="sha256:[0-9a-f]{64}"|@sha256:[0-9a-f]{64}', "H", whole)
    whole = re.sub(
        r' *org.opencontainers.image.base.digest="sha256:[0-9a-f]{64}" \\\n', "", whole
    )
    bare = dockerfile.text_of(lock.stack, None, lock.catalog)
    assert bare.count(dockerfile.UNCOUNTED) == 4
    bare = re.sub(rf"{dockerfile.UNCOUNTED} -*", "N", bare)
    assert bare.replace(f'lock="{dockerfile.UNLOCKED}"', "H") == whole.replace(
        "slim-bookwormH", "slim-bookworm"
    )


@pytest.mark.slow
def test_page_contains_every_dockerfile(grid: Grid, facts: Catalog) -> None:
    day = facts.date.isoformat()
    by_name = {lock.stack.name: lock for lock in map(lock_of, PRESETS)}
    data = document.document(
        document.PageData(grid=grid, day=day, locks=by_name, proofs={})
    )
    for stack, shown in zip(grid.stacks, data["stacks"], strict=True):
        lock = by_name.get(stack.name)
        lock = (
            lock if lock and lock.stack == stack else None
        )  # a name does not tell where its base comes from
        text = "\n".join(data["texts"][number] for number in shown["dockerfile"])
        assert text.replace("{name}", stack.name) == dockerfile.text_of(
            stack, lock, day
        )
        assert shown["locked"] == (lock is not None)


def test_companions_of_a_stack_are_the_resolvers(few: Catalog, small: Grid) -> None:
    shelf = CompanionShelf(few)
    stack = small.stacks[0]
    fits = {shown.name: shown for shown in shelf.of(stack)}
    assert fits["cupy"].text.startswith("cupy-cuda11x ")
    assert "cupy-cuda11x" not in fits
    picked = {"torch": str(stack.torch), "cuda": stack.cuda_line}
    picked |= {"python": str(stack.python), "base": "auto"}
    if stack.base.source is BaseSource.BOOTSTRAP:
        picked["base"] = "bootstrap"
    for name, shown in fits.items():
        request = parse_request(picked, companions=[name])
        if not shown.fits:
            with pytest.raises(NoStackError):
                resolve(request, few)
            continue
        [companion] = resolve(request, few).companions
        assert companion.requirement.startswith(shown.text.split(" ")[0])
    assert "Packages bound to torch or CUDA" in document.html(few, small)


# --- receipts ------------------------------------------------------------------------------------------------------


def write(folder: Path, **receipts: object) -> Path:
    for name, receipt in receipts.items():
        (folder / f"{name}.json").write_text(serialize.dumps(receipt))
    return folder


def test_receipts_are_shown(tmp_path: Path) -> None:
    passed = samples.passed()
    failed = replace(
        samples.failed(), stack="another", started="2026-11-25T00:00:00+00:00"
    )
    (tmp_path / "torn.json").write_text("{")
    told = receipt_summary.read(write(tmp_path, a=passed, b=failed))
    assert set(told) == {passed.stack, "another"}
    assert told[passed.stack].accepted
    assert told[passed.stack].title == f"built, accepted on {passed.started[:10]}"
    assert dict(told[passed.stack].pairs)["held-out accuracy"] == "100 %"
    assert (told["another"].accepted, told["another"].title) == (
        False,
        "built, not accepted (last tried on 2026-11-25)",
    )


def test_a_later_failure_does_not_take_an_acceptance_away(tmp_path: Path) -> None:
    passed = samples.passed()
    later = replace(
        samples.failed(), stack=passed.stack, started="2030-01-01T00:00:00+00:00"
    )
    assert receipt_summary.read(write(tmp_path, a=later, b=passed))[
        passed.stack
    ].accepted


def test_the_size_is_the_images(tmp_path: Path) -> None:
    receipt = samples.passed()
    checks = [
        replace(c, value=1.5) if c.id == "contract.size" else c for c in receipt.checks
    ]
    assert "contract.size" in {check.id for check in checks}
    sized = replace(receipt, checks=tuple(checks), facts={"wheel_bytes": 2_000_000_000})
    told = receipt_summary.read(write(tmp_path, a=sized))
    assert (
        dict(told[receipt.stack].pairs)["image size"]
        == "3.00 GB, 1.50 times its wheels"
    )


def test_no_folder_of_receipts() -> None:
    with pytest.raises(UsageError, match="is not a folder"):
        receipt_summary.read(Path("nowhere"))


def test_stack_without_a_receipt_names_an_accepted_equivalent(small: Grid) -> None:
    grid = small
    proven = receipt_summary.Proof(
        accepted=True, title="built, accepted on 2026-11-24", pairs=()
    )
    name = next(
        stack.name
        for stack in grid.stacks
        if stack == grid.answer({"cuda": "11.7", "base": "bootstrap"})
    )
    known = document.PageData(
        grid=grid, day="2026-11-24", locks={}, proofs={name: proven}
    )
    shown = {stack["name"]: stack for stack in document.document(known)["stacks"]}
    assert shown[name]["proof"] == {
        "state": "accepted",
        "title": proven.title,
        "pairs": (),
    }
    best = grid.answer({"cuda": "11.7"})
    assert best is not None
    assert shown[best.name]["proof"]["title"] == "resolves, not built"
    [neighbour] = shown[best.name]["neighbours"]
    assert neighbour["name"] == name
    found = grid.answer(neighbour["picked"])
    assert found is not None
    assert found.name == name


# --- the file ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_page_is_one_small_file(grid: Grid, facts: Catalog) -> None:
    page = document.html(facts, grid, locks=list(map(lock_of, PRESETS)))
    assert len(page.encode()) < LARGEST
    assert not re.findall(
        r"<(?:link|img|script|iframe)[^>]* (?:src|href)=\"(?!data:)", page
    )


def test_the_page_is_the_same_each_time(small: Grid, few: Catalog) -> None:
    assert document.html(few, small) == document.html(few, compute(few))


def test_a_receipt_cannot_end_the_data(small: Grid, few: Catalog) -> None:
    attack = "</script><script>alert(1)</script>"
    hostile = receipt_summary.Proof(
        accepted=True, title=attack, pairs=((attack, attack),)
    )
    page = document.html(
        few, small, proofs={stack.name: hostile for stack in small.stacks}
    )
    assert "\\u003cscript>alert(1)" in page
    assert attack not in page
    assert page.count("</script>") == document.html(few, small).count("</script>") == 2
