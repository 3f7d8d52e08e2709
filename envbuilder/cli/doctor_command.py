"""`envbuilder doctor`: what a machine has, and what to mend before building."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.shared_options import (
    json_option,
    load_catalog,
    network_from,
    network_options,
    print_json,
    request_from,
    request_options,
    settings,
)
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.catalog.rows import Catalog
    from envbuilder.host.records import Host
    from envbuilder.model import Request

DOCTOR_FOUND_AN_ERROR = 8
_STACK_OPTIONS = ("cuda", "cudnn", "python", "torch", "base", "platform")


@click.command(name="doctor")
@request_options
@click.option("--target", metavar="FILE", help="Judge the machine on which `envbuilder doctor --json > FILE` ran.")
@network_options
@json_option
def command(target: str | None, as_json: bool, **options: Any) -> int:
    """What this machine has, and what to mend before building.

    With --cuda, --torch and the like: would that stack run here? --gpu and --driver judge a machine that has them
    instead of this one.
    """
    from envbuilder import serialize
    from envbuilder.doctor import Case, Severity, diagnose

    facts = load_catalog(options)
    host = _host(target, options, facts)
    findings = diagnose(Case(host=host, catalog=facts, request=_request(options)))
    worst = any(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        print_json({"ok": not worst, "findings": serialize.plain(findings), "host": serialize.plain(host)})
    else:
        from envbuilder.format.doctor_text import show

        show(host, findings, _name(target, options))
    return DOCTOR_FOUND_AN_ERROR if worst else 0


def _request(options: dict[str, Any]) -> "Request | None":
    """The stack that was asked for; --gpu and --driver name the machine, not the stack."""
    stack = {name: value for name, value in options.items() if name not in ("gpu", "driver")}
    defaults = settings()
    said = any(stack.get(name) or defaults.get(name) for name in _STACK_OPTIONS) or stack["packages"]
    return request_from(stack) if said or "package" in defaults else None


def _host(target: str | None, options: dict[str, Any], facts: "Catalog") -> "Host":
    from envbuilder.host.records import Host

    named = _named(options, facts)
    if target:
        host = read_host(target)
        return replace(host, gpu=replace(host.gpu, **named))
    if named:
        return replace(Host(), gpu=replace(Host().gpu, **named))
    return ask_here(options, facts)


def ask_here(options: dict[str, Any], facts: "Catalog") -> "Host":
    """The state of this machine."""
    from envbuilder.host.collect import collect
    from envbuilder.host.local_probe import new_probe

    return collect(new_probe(network_from(options), facts))


def read_host(name: str) -> "Host":
    """The host in a document of `doctor --json`. Raises `UsageError` if it is none."""
    import msgspec

    from envbuilder import grammar, serialize
    from envbuilder.files import read_text
    from envbuilder.host.records import Host

    hint = "write it on that machine: `envbuilder doctor --json > host.json`"
    text = read_text(Path(name), hint=hint)
    try:
        document = msgspec.json.decode(text)["host"]
        host = msgspec.convert(document, Host, dec_hook=serialize.from_plain)
        _check_fields(document, host)
        return host
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{name} describes no host: {grammar.explained(str(error))}", hint=hint) from error


def _check_fields(document: dict[str, Any], host: "Host") -> None:
    """Raise `ValueError` for a field that a host does not have: without it, a misspelt one would count as unknown."""
    known = {field.name for field in fields(host)}
    for name, record in document.items():
        if name not in known:
            raise ValueError(f"Object contains unknown field `{name}`")
        parts = {field.name for field in fields(getattr(host, name))}
        unknown = sorted(record.keys() - parts)
        if unknown:
            raise ValueError(f"Object contains unknown field `{unknown[0]}` - at `$.{name}`")


def _named(options: dict[str, Any], facts: "Catalog") -> dict[str, Any]:
    """The GPU and the driver that the options name."""
    from envbuilder.catalog.gpus import find_gpu
    from envbuilder.host.records import GpuDevice
    from envbuilder.resolve.command_line import parse_request

    said = parse_request({name: options.get(name) for name in ("gpu", "driver")})
    named: dict[str, Any] = {"driver": options["driver"]} if said.driver else {}
    if said.gpu:
        row = find_gpu(said.gpu, facts)
        if row is None:
            raise UsageError(
                f"the catalog of {facts.date} knows no GPU {said.gpu!r}", hint="give its compute capability, as 8.6"
            )
        named["devices"] = (GpuDevice(name="GPU" if said.gpu[0].isdigit() else said.gpu, capability=row.capability),)
    return named


def _name(target: str | None, options: dict[str, Any]) -> str:
    named = " and ".join(
        f"{word} {options[name]}" for name, word in (("gpu", "GPU"), ("driver", "driver")) if options.get(name)
    )
    if target:
        return f"{target} with {named}" if named else target
    return f"A machine with {named}" if named else "This machine"
