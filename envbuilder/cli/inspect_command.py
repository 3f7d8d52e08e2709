"""`envbuilder inspect`: Image → what it holds and what it has proven."""

import click

from envbuilder.cli.session import new_engine, print_json, receipt_store
from envbuilder.cli.shared_options import json_option


@click.command(name="inspect")
@click.argument("image")
@json_option
def command(image: str, as_json: bool) -> None:
    """Show stack, lock, size by layer and package, and the last receipt of IMAGE, a name or an id.

    The image is not changed. An image that envbuilder did not build is shown as far as possible.
    """
    from envbuilder.acceptance.inspect_image import inspect_image
    from envbuilder.console import answer
    from envbuilder.format.image_text import inspection_document, inspection_text

    with new_engine() as engine:
        engine.sweep()
        inspection = inspect_image(image, engine, receipt_store())
    if as_json:
        print_json(inspection_document(inspection))
    else:
        answer(inspection_text(inspection))
