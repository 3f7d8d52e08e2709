"""`envbuilder base`: the base image of a stack, at hand."""

from typing import Any

import click

from envbuilder.cli.shared_options import (
    json_option,
    lock_option,
    network_options,
    new_engine,
    print_json,
    read_lock,
    request_from,
    request_options,
    site_from,
)


@click.command(name="base")
@request_options
@lock_option
@network_options
@json_option
def command(lock_file: str | None, as_json: bool, **options: Any) -> None:
    """Have the base image of a stack at hand: from the engine's store, a registry, or Debian's packages."""
    from envbuilder import pipeline
    from envbuilder.console import answer, size_text

    site = site_from(options)
    if lock_file:
        stack = read_lock(lock_file).stack
        with new_engine() as engine:
            found = pipeline.have_base(stack, engine, site)
    else:
        request = request_from(options)
        stack = pipeline.decide(request, site)
        with new_engine() as engine:
            stack, found = pipeline.choose_stack(request, stack, engine, site)
    if as_json:
        print_json({"ok": True, "base": stack.base.reference, "image": found.id, "bytes": found.size})
    else:
        answer(f"{stack.base.reference}  {found.id}  {size_text(found.size)}")
