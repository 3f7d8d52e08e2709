"""`envbuilder catalog page`: Catalog → one page to pick a stack from."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from envbuilder.cli.shared_options import json_option, print_json, read_lock
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock


@click.command(name="page")
@click.option("--output", "-o", default="envbuilder.html", show_default=True, metavar="FILE", help="Where to.")
@click.option("--receipts", metavar="DIR", help="Receipts to show; receipts/, if it is there and none is named.")
@click.option(
    "--locks", metavar="DIR", help="Folders of stacks whose locks make Dockerfiles whole; docker/images/ likewise."
)
@json_option
def command(output: str, receipts: str | None, locks: str | None, as_json: bool) -> None:
    """Write one HTML page to pick a stack from: self-contained, with every answer of the resolver in it."""
    from envbuilder import catalog
    from envbuilder.console import Console, size_text
    from envbuilder.files import write_file
    from envbuilder.format.page import document, grid, receipt_summary

    facts, found = catalog.load(), Path(receipts or "receipts")
    page = document.html(
        facts,
        grid.compute(facts),
        locks=_locks(Path(locks or "docker/images"), named=locks is not None),
        proofs=receipt_summary.read(found) if receipts or found.is_dir() else {},
    )
    write_file(Path(output), page)
    Console().say(f"wrote {output}: {size_text(len(page.encode()))}")
    if as_json:
        print_json({"ok": True, "file": output, "bytes": len(page.encode())})


def _locks(folder: Path, *, named: bool) -> "list[Lock]":
    """The locks of the stacks in a folder."""
    found = [read_lock(str(path)) for path in sorted(folder.glob("*/envbuilder.lock"))]
    if named and not found:
        raise UsageError(f"{folder} holds no locks", hint="write one: `envbuilder render`")
    return found
