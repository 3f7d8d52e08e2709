"""`envbuilder catalog page`: Catalog → one HTML page to choose a stack from."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from envbuilder.cli.session import print_json, read_lock
from envbuilder.cli.shared_options import json_option
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.model import Lock


@click.command(name="page")
@click.option(
    "--output",
    "-o",
    default="envbuilder.html",
    show_default=True,
    metavar="FILE",
    help="File to write.",
)
@click.option(
    "--receipts",
    metavar="DIR",
    help="Directory of receipts (default: receipts/ if it exists).",
)
@click.option(
    "--locks",
    metavar="DIR",
    help="Directory of locks; locked stacks show their complete Dockerfile (default: docker/images/).",
)
@json_option
def command(
    output: str, receipts: str | None, locks: str | None, as_json: bool
) -> None:
    """Write one self-contained HTML page to choose a stack from, with every answer of the resolver."""
    from envbuilder import catalog
    from envbuilder.console import Console, size_text
    from envbuilder.files import write_file
    from envbuilder.format.page import document, grid, receipt_summary
    from envbuilder.format.page.receipt_summary import Proof

    facts = catalog.load()
    receipts_folder = Path(receipts or "receipts")
    proofs: Mapping[str, Proof] = {}
    if receipts or receipts_folder.is_dir():
        proofs = receipt_summary.read(receipts_folder)
    page = document.html(
        facts,
        grid.compute(facts),
        locks=_locks(Path(locks or "docker/images"), named=locks is not None),
        proofs=proofs,
    )
    write_file(Path(output), page)
    size = len(page.encode())
    Console().say(f"wrote {output}: {size_text(size)}")
    if as_json:
        print_json({"ok": True, "file": output, "bytes": size})


def _locks(folder: Path, *, named: bool) -> "list[Lock]":
    """The locks of the stacks in a folder."""
    locks = [read_lock(str(path)) for path in sorted(folder.glob("*/envbuilder.lock"))]
    if named and not locks:
        raise UsageError(
            f"no locks found in {folder}", hint="create one: `envbuilder render`"
        )
    return locks
