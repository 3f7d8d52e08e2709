"""`envbuilder resolve`: Request → Stack."""

from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.shared_options import json_option, load_catalog, print_json, request_from, request_options
from envbuilder.errors import NoStackError

if TYPE_CHECKING:
    from envbuilder.catalog.rows import Advisory
    from envbuilder.model import Stack
    from envbuilder.resolve.explain import Explanation

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
    from envbuilder.format.stack_text import stack_document, stack_text
    from envbuilder.resolve import advisories, resolve
    from envbuilder.resolve.candidate_index import index_for
    from envbuilder.resolve.explain import explain as weigh

    request, facts = request_from(options), load_catalog(options)
    weighed = weigh(request, index_for(facts)) if explain else None
    try:
        stack = resolve(request, facts)
    except NoStackError as error:
        if weighed and as_json:
            error.explanation = serialize.plain(weighed)
        elif weighed:
            answer(explanation_text(weighed))
        raise
    if as_json:
        more = {"explanation": serialize.plain(weighed)} if weighed else {}
        found = serialize.plain(advisories(stack, facts))
        print_json({"ok": True, "stack": stack_document(stack), "advisories": found, **more})
    else:
        told = [advisory_text(row, stack) for row in advisories(stack, facts)]
        answer("\n".join([stack_text(stack), *told, *([explanation_text(weighed)] if weighed else [])]))


def advisory_text(row: "Advisory", stack: "Stack") -> str:
    """What is known against a stack's torch, and what to do about it."""
    return f"advice: torch {stack.torch} has {row.id}: {row.says}; {row.advice} ({row.source})"


def explanation_text(weighed: "Explanation") -> str:
    """The winner, why it won, and everything else with what speaks against it."""
    lines = [f"winner: {weighed.winner}", f"because: {weighed.because}"] if weighed.winner else []
    for other in weighed.alternatives:
        pythons = ", ".join(map(str, other.pythons))
        bases = ", ".join(other.bases) if len(other.bases) <= _FEW else f"{len(other.bases)} bases"
        lines.append(f"{'behind' if other.fits else 'rejected'}: {other.build} on Python {pythons} ({bases})")
        lines += [f"  {reason}" for reason in other.reasons]
    return "\n".join(lines)
