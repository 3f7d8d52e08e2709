"""`envbuilder catalog`: what the facts are, and whether they still hold."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.catalog_page_command import command as page
from envbuilder.cli.shared_options import (
    catalog_option,
    json_option,
    network_options,
    own_catalog,
    print_json,
    site_from,
)

if TYPE_CHECKING:
    from envbuilder.catalog.verify import Problem
    from envbuilder.lock import Answer
    from envbuilder.pipeline import Site


@click.group(name="catalog")
def command() -> None:
    """What is known of torch, CUDA, drivers, GPUs and images, and whether it still holds."""


@command.command(name="verify")
@catalog_option
@click.option("--online", is_flag=True, help="Ask the index about every release of torch, too; some minutes.")
@network_options
@json_option
def verify_command(online: bool, as_json: bool, **options: Any) -> None:
    """Derive again what can be derived, and fail if a fact says something else.

    Each line names file, row and field. Nothing is downloaded without --online.
    """
    from envbuilder.catalog import checks, verify
    from envbuilder.console import answer
    from envbuilder.errors import CatalogError
    from envbuilder.resolve.candidates import PREFERENCES

    facts = verify.gather(list(PREFERENCES), own=own_catalog(options))
    found = verify.find_problems(facts, checks.ALL)
    if online:
        found += ask_index(site_from(options))
    if found:
        raise CatalogError(
            f"facts of the catalog that do not hold: {len(found)}",
            problems=[str(problem) for problem in found],
            hint="`.venv/bin/python tools/refresh_torch.py` in a checkout shows what moved; mend your own rows by hand",
        )
    rows = sum(len(found) for found in facts.tables.values())
    if as_json:
        print_json({"ok": True, "rows": rows, "date": facts.catalog.date.isoformat(), "online": online})
    else:
        answer(f"{rows} facts of {facts.catalog.date} agree" + (" with each other and the index" if online else ""))


def ask_index(site: "Site") -> Iterator["Problem"]:
    """What the index says otherwise, release after release."""
    from envbuilder.catalog import online
    from envbuilder.lock import yanked

    for build in online.builds(site.catalog):
        site.console.say(f"torch {build.torch}")
        wheels = _ask(site, f"torch=={build.torch}\n", partial(online.wheels_argv, build))
        pins = _ask(site, online.family(build), partial(online.pins_argv, build))
        for answer in (wheels, pins):
            if answer.document is None:
                yield online.unreadable(build, answer.stderr)
                break
        if wheels.document is not None and pins.document is not None:
            yield from online.compare(build, wheels.document, pins.document)
            yield from online.withdrawn(build, yanked(pins.stderr))


def _ask(site: "Site", requirements: str, argv: Callable[..., list[str]]) -> "Answer":
    """What uv found. Raises `EngineError` if the index cannot be reached."""
    from envbuilder.files import temporary_folder, write_file
    from envbuilder.lock import read_answer

    with temporary_folder("verify") as folder:
        write_file(folder / "requirements.in", requirements)
        return read_answer(site.uv.run(argv(site.uv.program, folder)), folder)


@command.command(name="images")
@catalog_option
@click.argument("cuda", required=False)
@json_option
def images_command(cuda: str | None, as_json: bool, **options: Any) -> None:
    """The tags of nvidia/cuda for CUDA (12.4, 12.4.1; all without it), each with what is known of its state."""
    from envbuilder import catalog, serialize
    from envbuilder.console import answer
    from envbuilder.errors import UsageError
    from envbuilder.resolve.command_line import quoted
    from envbuilder.resolve.parsers import parse_cuda
    from envbuilder.versions import matches_prefix

    try:
        wanted = parse_cuda(cuda) if cuda else None
    except ValueError as error:
        raise UsageError(f"{quoted(str(cuda))}: {error}", hint="see `envbuilder catalog images --help`") from error
    rows = catalog.load_images(own=own_catalog(options))
    found = [row for row in rows if wanted is None or matches_prefix(wanted, row.cuda)]
    if not found:
        raise UsageError(
            f"the catalog knows no tag of nvidia/cuda for CUDA {wanted}", hint="`envbuilder catalog images` lists all"
        )
    if as_json:
        print_json({"ok": True, "images": [serialize.plain(row) | {"tags": list(row.tags)} for row in found]})
    else:
        for row in found:
            answer(f"{row.state:12} {row.cuda}-*-{row.os}: {', '.join(row.flavours)}")


command.add_command(page)
