"""`envbuilder base`: fetch or build the base image of a stack."""

from typing import Any

import click

from envbuilder.cli.request import refuse_request_options, request_from
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
def command(as_json: bool, **options: Any) -> None:
    """Fetch or build the base image of a stack: from the engine's cache, a registry, or Debian packages."""
    from envbuilder import pipeline
    from envbuilder.console import answer, size_text

    refuse_request_options(options)
    session = session_from(options)
    if options["lock_file"]:
        lock = read_lock(options["lock_file"])
        stack = lock.stack
        with new_engine() as engine:
            image = pipeline.ensure_locked_base(lock, engine, session)
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
