"""`envbuilder doctor`: check a machine for problems before building."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbuilder.cli.request import request_from
from envbuilder.cli.session import load_catalog, network_from, print_json
from envbuilder.cli.settings import Options, is_from_environment, settings
from envbuilder.cli.shared_options import json_option, network_options, request_options
from envbuilder.errors import UsageError

if TYPE_CHECKING:
    from envbuilder.catalog.rows import Catalog, Gpu
    from envbuilder.host.records import Host, MachineState
    from envbuilder.model import Request

DOCTOR_FOUND_AN_ERROR = 8
_STACK_OPTIONS = ("cuda", "cudnn", "python", "torch", "base", "platform")


@click.command(name="doctor")
@request_options
@click.option(
    "--target",
    metavar="FILE",
    help="Check the machine on which `envbuilder doctor --json > FILE` ran.",
)
@network_options
@json_option
def command(target: str | None, as_json: bool, **options: Any) -> int:
    """Check this machine for problems before building.

    With --cuda, --torch and the like: also check whether that stack runs here. --gpu and --driver check a machine
    that has them instead of this one.
    """
    from envbuilder import serialize
    from envbuilder.doctor import Case, Severity, diagnose

    facts = load_catalog(options)
    machine = _machine_options(options)
    host = _host(target, machine, options, facts)
    request = _request(options, host)
    findings = diagnose(Case(host=host, catalog=facts, request=request))
    worst = any(finding.severity is Severity.ERROR for finding in findings)
    if as_json:
        print_json(
            {
                "ok": not worst,
                "findings": serialize.plain(findings),
                "host": serialize.plain(host),
            }
        )
    else:
        from envbuilder.format.doctor_text import print_diagnosis

        print_diagnosis(host, findings, _name(target, machine))
    return DOCTOR_FOUND_AN_ERROR if worst else 0


def _machine_options(options: Options) -> dict[str, str]:
    """`--gpu` and `--driver` describe another machine; in the environment they are wishes for the stack."""
    machine = {}
    for name in ("gpu", "driver"):
        if options.get(name) and not is_from_environment(name):
            machine[name] = options[name]
    return machine


def _request(options: Options, host: "Host") -> "Request | None":
    """The requested stack; --gpu and --driver describe the machine, not the stack."""
    stack = dict(options)
    if options.get("gpu") and not options.get("platform"):
        stack["platform"] = host.machine.platform
    stack.pop("gpu", None)
    stack.pop("driver", None)
    defaults = settings()
    if stack["packages"] or stack["apt"] or "package" in defaults:
        return request_from(stack)
    for name in _STACK_OPTIONS:
        if stack.get(name) or defaults.get(name):
            return request_from(stack)
    return None


def _host(
    target: str | None,
    machine: dict[str, str],
    options: Options,
    facts: "Catalog",
) -> "Host":
    from envbuilder.host.records import Host

    named = _named(machine, facts)
    if target:
        host = read_host(target)
        return replace(host, gpu=replace(host.gpu, **named))
    if named:
        gpu = replace(Host().gpu, **named)
        return replace(Host(), gpu=gpu, machine=_machine_of(machine, facts))
    return ask_here(options, facts)


def ask_here(options: Options, facts: "Catalog") -> "Host":
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
        raise UsageError(
            f"{name} describes no host: {grammar.explained(str(error))}", hint=hint
        ) from error


def _check_fields(document: dict[str, Any], host: "Host") -> None:
    """Raise `ValueError` for a field that a host does not have: without it, a misspelt one would count as unknown."""
    known = {field.name for field in fields(host)}
    for name, record in document.items():
        if name not in known:
            raise ValueError(f"Object contains unknown field `{name}`")
        part = getattr(host, name)
        parts = {field.name for field in fields(part)}
        unknown = sorted(record.keys() - parts)
        if unknown:
            raise ValueError(
                f"Object contains unknown field `{unknown[0]}` - at `$.{name}`"
            )


def _machine_of(machine: dict[str, str], facts: "Catalog") -> "MachineState":
    """What the GPU says of the machine that has it: a GB10 comes with an arm64 processor."""
    from envbuilder.host.records import MachineState
    from envbuilder.resolve.command_line import parse_request
    from envbuilder.resolve.request_rows import look_up

    rows = look_up(parse_request(machine), facts)
    return MachineState(processor="aarch64" if rows.arm64 else None)


def _named(machine: dict[str, str], facts: "Catalog") -> dict[str, Any]:
    """The GPU and the driver that the options name, as fields of a host."""
    from envbuilder.host.records import GpuDevice
    from envbuilder.resolve.command_line import parse_request

    request = parse_request(machine)
    named: dict[str, Any] = {}
    if request.driver:
        named["driver"] = machine["driver"]
    if request.gpu:
        row = _find_gpu(request, facts)
        name = "GPU" if request.gpu[0].isdigit() else request.gpu
        named["devices"] = (GpuDevice(name=name, capability=row.capability),)
    return named


def _find_gpu(request: "Request", facts: "Catalog") -> "Gpu":
    from envbuilder.catalog.gpu_names import find_gpu
    from envbuilder.resolve.options import diagnose_unknown
    from envbuilder.resolve.request_rows import look_up

    row = find_gpu(request.gpu or "", facts)
    if row is not None:
        return row
    diagnosis = diagnose_unknown(look_up(request, facts))["gpu"]
    hint = "give its compute capability, e.g. `--gpu 8.6`"
    if diagnosis.is_choice:
        hint = " or ".join(f"`--gpu {value}`" for value in diagnosis.instead)
    elif diagnosis.on_cpu:
        hint = "train on the CPU: `envbuilder build --flavour cpu`"
    raise UsageError(diagnosis.text, hint=hint)


def _name(target: str | None, machine: dict[str, str]) -> str:
    parts = []
    if "gpu" in machine:
        parts.append(f"GPU {machine['gpu']}")
    if "driver" in machine:
        parts.append(f"driver {machine['driver']}")
    changes = " and ".join(parts)
    if target:
        return f"{target} with {changes}" if changes else target
    return f"A machine with {changes}" if changes else "This machine"
