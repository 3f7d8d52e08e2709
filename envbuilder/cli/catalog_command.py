"""`envbuilder catalog`: show the facts, and check whether they still hold."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.catalog_page_command import command as page
from envbuilder.cli.command_group import SuggestingGroup, print_help_if_alone
from envbuilder.cli.session import print_json, session_from
from envbuilder.cli.settings import own_catalog
from envbuilder.cli.shared_options import catalog_option, json_option, network_options

if TYPE_CHECKING:
    from envbuilder.catalog.verify import Problem
    from envbuilder.lock.index_answer import IndexAnswer
    from envbuilder.lock.torch_index import TorchIndex
    from envbuilder.pipeline import Session


@click.group(name="catalog", cls=SuggestingGroup)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Inspect and verify the catalog of torch, CUDA, drivers, GPUs and images, or export it as an HTML page."""
    print_help_if_alone(ctx)


@command.command(name="verify")
@catalog_option
@click.option(
    "--online",
    is_flag=True,
    help="Also compare every torch release and the companions with PyPI and PyTorch's own indexes (takes minutes).",
)
@network_options
@json_option
def verify_command(online: bool, as_json: bool, **options: Any) -> None:
    """Check the facts against each other, and with --online against the package index and PyTorch's own.

    Each problem names file, row and field. Nothing is downloaded without --online.
    """
    from envbuilder.catalog import checks, verify
    from envbuilder.console import answer
    from envbuilder.errors import CatalogError
    from envbuilder.resolve.candidates import PREFERENCES

    facts = verify.gather(list(PREFERENCES), own=own_catalog(options))
    problems = verify.find_problems(facts, checks.ALL)
    unreached: list[str] = []
    if online:
        session = session_from(options)
        problems += check_online(session)
        problems += check_own_indexes(session, unreached)
        problems += check_companions(session)
    if problems:
        raise CatalogError(
            f"facts of the catalog that do not hold: {len(problems)}",
            problems=[str(problem) for problem in problems],
            hint="fix the entries of a custom catalog by hand; for the built-in ones, upgrade envbuilder",
        )
    rows = sum(len(table) for table in facts.tables.values())
    date = facts.catalog.date
    if as_json:
        print_json(
            {
                "ok": True,
                "rows": rows,
                "date": date.isoformat(),
                "online": online,
                "not_reached": unreached,
            }
        )
    elif online:
        answer(
            f"{rows} facts of {date} agree with each other and {_reached(unreached)}"
        )
    else:
        answer(f"{rows} facts of {date} agree")


def check_online(session: "Session") -> Iterator["Problem"]:
    """How the index differs from the catalog, one release of torch after the other."""
    from envbuilder.catalog import online
    from envbuilder.lock.index_answer import yanked_releases

    for build in online.builds(session.catalog):
        session.console.say(f"torch {build.torch}")
        wheels = _ask(
            session, f"torch=={build.torch}\n", partial(online.wheels_argv, build)
        )
        pins = _ask(session, online.family(build), partial(online.pins_argv, build))
        for answer in (wheels, pins):
            if answer.document is None:
                yield online.unreadable(build, answer.stderr)
                break
        if wheels.document is not None and pins.document is not None:
            yield from online.compare(build, wheels.document, pins.document)
            yield from online.withdrawn(build, yanked_releases(pins.stderr))


def check_companions(session: "Session") -> Iterator["Problem"]:
    """How the index differs from what is known of companions: the newest range of each package."""
    from envbuilder import catalog
    from envbuilder.catalog import online_companions as online

    known = session.catalog
    rows = catalog.load_companions(own=catalog.own_folder(known))
    for row in online.newest_rows(rows):
        session.console.say(f"{row.name} {row.last}")
        argv = partial(online.argv, row, known)
        alone = _ask(session, online.first_release(row), partial(argv, alone=True))
        if alone.document is None:
            yield online.unreadable(row, alone.stderr)
            continue
        yield from online.compare_release(row, alone.document)
        if not row.torch:
            continue
        resolved = _ask(session, online.with_torch(row), partial(argv, alone=False))
        if resolved.document is None:
            yield online.unreadable(row, resolved.stderr)
            continue
        yield from online.compare_torch(row, resolved.document)


def _reached(unreached: Sequence[str]) -> str:
    if not unreached:
        return "the indexes"
    return f"PyPI; not reached: {', '.join(unreached)}"


def check_own_indexes(session: "Session", unreached: list[str]) -> Iterator["Problem"]:
    """How the pages of PyTorch's own indexes differ from the catalog; those that do not answer are added by name."""
    from envbuilder.catalog import online
    from envbuilder.errors import EngineError
    from envbuilder.lock.torch_index import index_at, other_tag

    for name, builds in online.builds_by_index(session.catalog).items():
        known = session.catalog.policy.indexes.get(name)
        tag = online.tag_of(builds[0])
        address = session.uv.torch_index or (known.url if known else "")
        if not address or other_tag(address, tag):
            unreached.append(name)
            continue
        index = index_at(address, name=name, tag=tag)
        session.console.say(f"{index.text}: {len(builds)} builds of torch")
        try:
            files = _listed_files(session, index)
        except EngineError as error:
            session.console.note(f"not reached: {error.message}")
            unreached.append(name)
            continue
        for build in builds:
            yield from online.compare_listed(build, files)


def _listed_files(session: "Session", index: "TorchIndex") -> dict[str, list[str]]:
    """Package of the torch family → the wheels on its page."""
    from envbuilder.lock.index_page import parse_page
    from envbuilder.lock.torch_index import FAMILY

    files: dict[str, list[str]] = {}
    client = session.uv.client
    if client is None:
        return files
    for package in FAMILY:
        page = index.page_of(package)
        text = client.page(page)
        listed = parse_page(text, page)
        files[package] = [wheel.file for wheel in listed]
    return files


def _ask(
    session: "Session", requirements: str, argv: Callable[..., list[str]]
) -> "IndexAnswer":
    """What uv found. Raises `EngineError` if the index cannot be reached."""
    from envbuilder.files import temporary_folder, write_file
    from envbuilder.lock.index_answer import read_answer

    with temporary_folder("verify") as folder:
        write_file(folder / "requirements.in", requirements)
        return read_answer(session.uv.run(argv(session.uv.program, folder)), folder)


@command.command(name="images")
@catalog_option
@click.argument("cuda", required=False)
@json_option
def images_command(cuda: str | None, as_json: bool, **options: Any) -> None:
    """List the tags of nvidia/cuda and their state, for one CUDA version (12.4 or 12.4.1) or all."""
    from envbuilder import catalog, serialize
    from envbuilder.console import answer
    from envbuilder.errors import UsageError
    from envbuilder.resolve.command_line import quoted
    from envbuilder.resolve.parsers import parse_cuda
    from envbuilder.versions import matches_prefix

    try:
        version = parse_cuda(cuda) if cuda else None
    except ValueError as error:
        raise UsageError(
            f"{quoted(str(cuda))}: {error}",
            hint="see `envbuilder catalog images --help`",
        ) from error
    rows = catalog.load_images(own=own_catalog(options))
    images = [
        row for row in rows if version is None or matches_prefix(version, row.cuda)
    ]
    if not images:
        raise UsageError(
            f"no tag of nvidia/cuda for CUDA {version} is in the catalog",
            hint="list all: `envbuilder catalog images`",
        )
    if as_json:
        print_json(
            {
                "ok": True,
                "images": [
                    serialize.plain(row) | {"tags": list(row.tags)} for row in images
                ],
            }
        )
        return
    for row in images:
        answer(f"{row.state:12} {row.cuda}-*-{row.os}: {', '.join(row.flavours)}")


command.add_command(page)
