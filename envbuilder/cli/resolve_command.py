"""`envbuilder resolve`: Request → Stack."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.request import request_from
from envbuilder.cli.requirement_files import answers_document, say_answers
from envbuilder.cli.session import (
    load_catalog,
    network_from,
    print_json,
    repeatable_flags,
)
from envbuilder.cli.shared_options import (
    index_options,
    json_option,
    request_options,
    requirements_option,
)
from envbuilder.errors import NoStackError

if TYPE_CHECKING:
    from envbuilder.catalog.rows import Catalog
    from envbuilder.cli.settings import Options
    from envbuilder.model import Request, Stack

SKIP_LOOK = "ENVBUILDER_PACKAGE_LOOK"
"""`off` in the environment: the index is not asked about packages that the catalog does not know."""
_SECONDS = 3.0  # for all packages; `lock` has the time to look closely


@click.command(name="resolve")
@request_options
@requirements_option
@index_options
@click.option(
    "--explain", is_flag=True, help="Show every rejected combination, with the reason."
)
@json_option
def command(explain: bool, as_json: bool, **options: Any) -> None:
    """Show the compatible versions for a request, and why.

    Nothing is downloaded, and the engine is not contacted. A --package that the catalog does not know is looked up
    on the index, within a few seconds.
    """
    from envbuilder import serialize
    from envbuilder.console import answer
    from envbuilder.format.stack_text import (
        advisory_text,
        explanation_text,
        stack_document,
        stack_text,
    )
    from envbuilder.resolve import advisories as advisories_of
    from envbuilder.resolve import resolve
    from envbuilder.resolve.candidate_index import index_for
    from envbuilder.resolve.explain import explain as explain_request

    if options["ca_bundle"] or options["index_url"]:
        network_from(options)  # raises for what is no CA bundle, and no index
    request = request_from(options)
    facts = load_catalog(options)
    flags = repeatable_flags(options)
    explanation = explain_request(request, index_for(facts)) if explain else None
    try:
        stack = resolve(request, facts, flags=flags)
    except NoStackError as error:
        if not as_json:
            say_answers()
        if explanation and as_json:
            error.explanation = serialize.plain(explanation)
        elif explanation:
            answer(explanation_text(explanation))
        raise
    stack = _with_package_notes(stack, request, facts, options)
    advisories = advisories_of(stack, facts)
    if as_json:
        document = {
            "ok": True,
            "stack": stack_document(stack),
            "advisories": serialize.plain(advisories),
        }
        document |= answers_document(stack)
        if explanation:
            document["explanation"] = serialize.plain(explanation)
        print_json(document)
        return
    say_answers(stack)
    answer(stack_text(stack))
    for advisory in advisories:
        answer(advisory_text(advisory, stack))
    if explanation:
        answer(explanation_text(explanation))


def _with_package_notes(
    stack: "Stack", request: "Request", facts: "Catalog", options: "Options"
) -> "Stack":
    """The stack, with a note on each package whose newest release does not go with it."""
    if not request.packages or os.environ.get(SKIP_LOOK) == "off":
        return stack
    from envbuilder.cli.session import index_reader
    from envbuilder.resolve.known_packages import unknown_packages

    unknown = unknown_packages(request, stack, facts)
    if not unknown:
        return stack
    from envbuilder.lock.package_look import look_notes

    uv = index_reader(options)
    notes = list(look_notes(uv, stack, unknown, seconds=_SECONDS))
    if not notes:
        return stack
    notes.append("`envbuilder lock` looks for releases that go together")
    return replace(stack, notes=(*stack.notes, *notes))
