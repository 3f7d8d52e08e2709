"""Recorded hosts: each gets the right first diagnosis, and a command that exists."""

import json
import shlex
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import hosts
import msgspec
import pytest
from marks import few
from packaging.version import Version

from envbuilder import catalog, cli, serialize
from envbuilder.catalog.rows import Catalog
from envbuilder.doctor import RULES, Case, Finding, Severity, diagnose, remedies
from envbuilder.doctor.remedies import Remedy
from envbuilder.doctor.stack_rules import best_for, with_capabilities
from envbuilder.host.collect import collect, collect_gpus
from envbuilder.host.records import GpuDevice, GpuState, Host, MachineState
from envbuilder.model import Request
from envbuilder.resolve.command_line import parse_request

KNOWN = {
    value.command for value in vars(remedies).values() if isinstance(value, Remedy)
}


@cache
def known() -> Catalog:
    """The catalog, as of the day of the recordings: a newer one would take their clocks for wrong."""
    return replace(catalog.load(), date=date(2026, 11, 23))


@pytest.fixture
def facts() -> Catalog:
    return known()


@cache
def host_of(name: str) -> Host:
    return collect(hosts.play(hosts.read(name)))


@cache
def case_of(name: str) -> Case:
    asked = hosts.read(name).get("ask")
    return Case(
        host=host_of(name),
        catalog=known(),
        request=parse_request(asked) if asked else None,
    )


@cache
def findings_of(name: str) -> list[Finding]:
    return diagnose(case_of(name))


@cache
def resolves(command: str) -> bool:
    return cli.run(shlex.split(command)[1:]) == 0


def plain(finding: Finding) -> dict[str, Any]:
    return {
        key: serialize.plain(finding)[key]
        for key in ("id", "severity", "message", "remedy")
    }


@pytest.mark.parametrize("name", hosts.NAMES)
def test_the_first_finding(name: str) -> None:
    assert plain(findings_of(name)[0]) == hosts.read(name)["expect"]


@pytest.mark.parametrize("name", hosts.NAMES)
def test_a_recording_names_its_source(name: str) -> None:
    assert json.loads((hosts.FOLDER / f"{name}.json").read_text())["source"]


@pytest.mark.parametrize("name", few(hosts.NAMES, fast=20))
def test_every_command_exists(name: str) -> None:
    """Ours parse, and those that only resolve are run; all others are from the list, each with its source."""
    for finding in findings_of(name):
        words = shlex.split(finding.remedy, comments=True)
        if words[:1] == ["envbuilder"]:
            parse(words[1:])
            if words[1] == "resolve":
                assert resolves(finding.remedy)
        else:
            assert finding.remedy in KNOWN
        if finding.remedy:
            assert finding.source


def parse(words: list[str]) -> None:
    command = cli.cli.get_command(None, words[0])  # type: ignore[arg-type]
    assert command is not None
    command.make_context(words[0], words[1:])


def test_every_remedy_has_a_source() -> None:
    listed = [
        value
        for value in vars(remedies).values()
        if isinstance(value, Remedy) and value.command
    ]
    assert len(listed) > 30
    assert all(remedy.source.startswith("https://") for remedy in listed)


def test_errors_and_warnings_have_a_reason_and_remedy() -> None:
    for name in hosts.NAMES:
        for finding in findings_of(name):
            if finding.severity in (Severity.ERROR, Severity.WARNING):
                assert finding.why, (name, finding)
                assert finding.source, (name, finding)


def test_one_cause_is_one_error() -> None:
    """A missing network is reported once. A driver that is too old for everything has two causes."""
    for name in sorted(set(hosts.NAMES) - {"error-803"}):
        errors = [
            finding
            for finding in findings_of(name)
            if finding.severity is Severity.ERROR
        ]
        assert len(errors) <= 1, (name, errors)


def test_errors_come_first() -> None:
    order = list(Severity)
    for name in hosts.NAMES:
        severities = [order.index(finding.severity) for finding in findings_of(name)]
        assert severities == sorted(severities)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_rule_has_a_host_that_it_finds_wanting(rule: Any) -> None:
    said = [rule(case_of(name)) for name in hosts.NAMES]
    bad = [
        finding for finding in said if finding and finding.severity is not Severity.OK
    ]
    assert bad, "no recorded host makes it speak"


def test_unknown_is_not_fine(facts: Catalog) -> None:
    """A host of which nothing is known: no rule says that something is well, or wrong."""
    findings = diagnose(Case(host=Host(), catalog=facts))
    assert {finding.severity for finding in findings} == {Severity.UNKNOWN}
    assert [finding.id for finding in findings] == [
        "engine", "clock", "buildx", "disk", "index", "registry", "gpu", "compose", "ca", "user", "cgroups", "shm",
        "build-ca", "bootstrap",
    ]  # fmt: skip


def test_a_stack_on_an_unknown_host_is_unknown(facts: Catalog) -> None:
    findings = diagnose(
        Case(host=Host(), catalog=facts, request=parse_request({"cuda": "11.7"}))
    )
    stack = next(finding for finding in findings if finding.id == "stack")
    assert (stack.severity, stack.message) == (
        Severity.UNKNOWN,
        "whether torch 2.0.1 for CUDA 11.7 runs on this machine is unknown: GPU and driver unknown",
    )


def test_a_stack_that_cannot_be_is_an_error(facts: Catalog) -> None:
    request = parse_request({"cuda": "11.7", "torch": "2.6"})
    first = diagnose(Case(host=host_of("workstation"), catalog=facts, request=request))[
        0
    ]
    assert (first.id, first.severity) == ("stack", Severity.ERROR)
    parse(shlex.split(first.remedy)[1:])


def test_cuda_stack_without_a_gpu_is_a_warning(facts: Catalog) -> None:
    first = diagnose(
        Case(
            host=host_of("no-gpu"),
            catalog=facts,
            request=parse_request({"cuda": "11.7"}),
        )
    )[0]
    assert plain(first) == {
        "id": "stack",
        "severity": "warning",
        "message": "torch 2.0.1 for CUDA 11.7 would train on the CPU",
        "remedy": "",
    }


@pytest.mark.parametrize("name", ["no-gpu", "workstation", "driver-too-old"])
def test_stack_without_cuda_needs_no_gpu_and_no_driver(
    facts: Catalog, name: str
) -> None:
    request = parse_request({"flavour": "cpu", "torch": "2.13"})
    findings = diagnose(Case(host=host_of(name), catalog=facts, request=request))
    stack = next(finding for finding in findings if finding.id == "stack")
    assert (stack.severity, stack.message) == (
        Severity.OK,
        "torch 2.13.0 without CUDA needs no GPU and no driver",
    )


@pytest.mark.parametrize("name", few(hosts.NAMES, fast=20))
def test_a_host_survives_its_document(name: str) -> None:
    host = host_of(name)
    document = json.loads(serialize.dumps({"host": host}))
    assert (
        msgspec.convert(document["host"], Host, dec_hook=serialize.from_plain) == host
    )


def test_host_facts_used_by_the_resolver(facts: Catalog) -> None:
    host = with_capabilities(host_of("two-kinds"), facts)
    assert [str(capability) for capability in host.gpu.capabilities] == ["8.6", "6.1"]
    assert str(host.gpu.driver_version) == "570.124.6"
    found = best_for(Request(), host, facts)
    assert found is not None
    assert {"sm_60", "sm_86"} <= set(found[1].arch_list)


def test_gpus_can_be_collected_without_a_network() -> None:
    asked = []
    probe = hosts.play(hosts.read("workstation"))
    whole = collect(probe)
    quick = collect_gpus(
        replace(probe, run=lambda argv: asked.append(argv[0]) or probe.run(argv))
    )
    assert (quick.gpu.devices, quick.gpu.driver) == (
        whole.gpu.devices,
        whole.gpu.driver,
    )
    assert quick.machine.platform == whole.machine.platform
    assert set(asked) == {"uname", "nvidia-smi"}


def test_a_stack_on_unknown_gpus_is_unknown() -> None:
    stack = next(
        finding
        for finding in findings_of("driver-without-smi")
        if finding.id == "stack"
    )
    assert (
        stack.message
        == "whether torch 2.0.1 for CUDA 11.7 runs on this machine is unknown: GPU unknown"
    )


def test_a_jetson_that_is_only_named(facts: Catalog) -> None:
    gpu = GpuDevice(name="Jetson AGX Orin", capability=Version("8.7"))
    host = Host(gpu=GpuState(devices=(gpu,)))
    first = diagnose(
        Case(host=host, catalog=facts, request=parse_request({"cuda": "12.6"}))
    )[0]
    assert (first.id, first.message) == (
        "jetson",
        "this is a Jetson: Jetson AGX Orin (8.7)",
    )


GARBAGE = (
    "a, b, c, d", '{"ServerVersion": 1, "Runtimes": [{}]}', "", "{", "[]", "null", "1 2 3", "-1", "9" * 400,
    '{"host": 1}',
)  # fmt: skip


@pytest.mark.parametrize("nonsense", few(GARBAGE, fast=2))
@pytest.mark.parametrize("name", few(["workstation", "podman", "mig", "cdi-only"]))
def test_answers_that_make_no_sense_are_unknown(name: str, nonsense: str) -> None:
    """Whatever a program or a file says, asking ends in a host."""
    recording = hosts.read(name)
    for part in ("commands", "files"):
        for key in recording[part]:
            answer = [0, nonsense, nonsense] if part == "commands" else nonsense
            collect(hosts.play({**recording, part: {**recording[part], key: answer}}))


def test_no_secret_of_a_proxy_is_kept() -> None:
    recording = hosts.read("proxy-refuses")
    recording["environ"] = {"HTTPS_PROXY": "http://anna:hunter2@proxy.example:3128"}
    assert "hunter2" not in serialize.dumps(collect(hosts.play(recording)))


def test_recordings_name_no_server() -> None:
    text = "".join(path.read_text() for path in Path(hosts.FOLDER).glob("*.json"))
    assert "server.example" in text
    assert not [
        word
        for word in ("pypi" + ".org", "pythonhosted", "registry-1", "index.docker")
        if word in text
    ]


def test_safe_versions_and_jetsons_come_from_the_catalog(facts: Catalog) -> None:
    workstation = host_of("workstation")
    host = replace(workstation, gpu=replace(workstation.gpu, toolkit="1.17.8"))

    def said(catalog: Catalog, name: str) -> list[str]:
        return [
            finding.message
            for finding in diagnose(Case(host=host, catalog=catalog))
            if finding.id == name
        ]

    assert said(facts, "toolkit") == ["NVIDIA Container Toolkit 1.17.8"]
    row = next(
        row for row in facts.advisories if row.package == "nvidia-container-toolkit"
    )
    newer = replace(
        facts,
        advisories=(
            *facts.advisories,
            replace(row, id="CVE-X", fixed=Version("1.18.1")),
        ),
    )
    assert said(newer, "toolkit") == [
        f"NVIDIA Container Toolkit 1.17.8: {row.says} (CVE-X)"
    ]
    for model, server in (
        ("NVIDIA Jetson AGX Orin Developer Kit", False),
        ("NVIDIA Jetson AGX Thor Kit", True),
    ):
        host = Host(machine=MachineState(jetson=model))
        assert bool(said(facts, "jetson")) is not server
    assert said(replace(facts, compatibility=()), "jetson")


def test_a_driver_that_does_not_know_the_gpu(facts: Catalog) -> None:
    gpu = GpuState(
        driver="535.104.05",
        devices=(GpuDevice(name="RTX 5090", capability=Version("12.0")),),
    )
    host = Host(gpu=gpu)
    for request in (None, parse_request({"cuda": "12.8"})):
        [finding] = [
            one
            for one in diagnose(Case(host=host, catalog=facts, request=request))
            if one.id == "stack"
        ]
        assert finding.severity is Severity.ERROR
        assert "needs driver 570.26 or newer, which came with CUDA 12.8" in finding.why
    running = Host(gpu=replace(gpu, cuda_init=0))
    started = diagnose(
        Case(host=running, catalog=facts, request=parse_request({"cuda": "12.8"}))
    )
    assert [one.severity for one in started if one.id == "stack"] == [Severity.OK]
