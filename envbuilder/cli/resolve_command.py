"""`envbuilder resolve`: Request → Stack."""

from typing import Any

import click

from envbuilder.cli.shared_options import json_option, load_catalog, print_json, request_from, request_options
from envbuilder.errors import NoStackError

_FEW = 2  # bases that are named; `--json` names all


@click.command(name="resolve")
@request_options
@click.option("--explain", is_flag=True, help="Show every combination that did not win, with its reason.")
@json_option
def command(explain: bool, as_json: bool, **options: Any) -> None:
    """Every version that fits together for a request, and why.

    Nothing is downloaded and no engine is asked.
    """
    from envbuilder import serialize
    from envbuilder.console import answer
    from envbuilder.format.stack_text import advisory_text, explanation_text, stack_document, stack_text
    from envbuilder.resolve import resolver
    from envbuilder.resolve.candidate_index import choice
    from envbuilder.resolve.explain import explain as weigh

    request, facts = request_from(options), load_catalog(options)
    weighed = weigh(request, choice(facts)) if explain else None
    try:
        stack = resolver.resolve(request, facts)
    except NoStackError as error:
        if weighed and as_json:
            error.explanation = serialize.plain(weighed)
        elif weighed:
            answer(explanation_text(weighed))
        raise
    if as_json:
        more = {"explanation": serialize.plain(weighed)} if weighed else {}
        found = serialize.plain(resolver.advisories(stack, facts))
        print_json({"ok": True, "stack": stack_document(stack), "advisories": found, **more})
    else:
        told = [advisory_text(row, stack) for row in resolver.advisories(stack, facts)]
        answer("\n".join([stack_text(stack), *told, *([explanation_text(weighed)] if weighed else [])]))
