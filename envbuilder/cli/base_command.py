"""`envbuilder base`: fetch or build the base image of a stack."""

from typing import Any

import click

from envbuilder.cli.request import request_from
from envbuilder.cli.session import new_engine, print_json, read_lock, session_from
from envbuilder.cli.shared_options import (
    json_option,
    lock_option,
    network_options,
    request_options,
)


@click.command(name="base")
@request_options
@lock_option
@network_options
@json_option
def command(lock_file: str | None, as_json: bool, **options: Any) -> None:
    """Fetch or build the base image of a stack: from the engine's cache, a registry, or Debian packages."""
    from envbuilder import pipeline
    from envbuilder.console import answer, size_text

    session = session_from(options)
    if lock_file:
        stack = read_lock(lock_file).stack
        with new_engine() as engine:
            image = pipeline.ensure_base(stack, engine, session)
    else:
        request = request_from(options)
        stack = pipeline.resolve_lockable(request, session)
        with new_engine() as engine:
            stack, image = pipeline.resolve_with_available_base(
                request, stack, engine, session
            )
    if as_json:
        print_json(
            {
                "ok": True,
                "base": stack.base.reference,
                "image": image.id,
                "bytes": image.size,
            }
        )
    else:
        answer(f"{stack.base.reference}  {image.id}  {size_text(image.size)}")
