"""`envbuilder resolve`: Request → Stack."""

from typing import Any

import click

from envbuilder.cli.request import request_from
from envbuilder.cli.requirement_files import answers_document, say_answers
from envbuilder.cli.session import load_catalog, print_json, repeatable_flags
from envbuilder.cli.shared_options import (
    json_option,
    request_options,
    requirements_option,
)
from envbuilder.errors import NoStackError


@click.command(name="resolve")
@request_options
@requirements_option
@click.option(
    "--explain", is_flag=True, help="Show every rejected combination, with the reason."
)
@json_option
def command(explain: bool, as_json: bool, **options: Any) -> None:
    """Show the compatible versions for a request, and why.

    Nothing is downloaded, and the engine is not contacted.
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
