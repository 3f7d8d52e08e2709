"""Shell completion: the script that a shell loads, and the values of options, from the catalog.

click asks these functions while a person types, so each imports only what it needs. An error means no suggestions:
nothing may be printed over the command line that is being edited.
"""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem, shell_complete

from envbuilder.errors import EnvbuilderError

if TYPE_CHECKING:
    from packaging.version import Version

    from envbuilder.catalog.rows import Catalog

VARIABLE = "_ENVBUILDER_COMPLETE"
"""Set by the shell, to `bash_source` or `bash_complete` for instance, when it wants a completion."""
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def answer_shell(command: click.Command) -> int:
    """Answer the shell; returns the exit code."""
    return shell_complete(command, {}, "envbuilder", VARIABLE, os.environ[VARIABLE])


def _from_catalog(
    values_of: "Callable[[Catalog], Iterator[tuple[str, str]]]",
) -> Complete:
    """Completes the values that a function finds in the catalog, each with a text that says what it is."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from envbuilder import catalog
        from envbuilder.cli.settings import own_catalog

        try:
            facts = catalog.load(own=own_catalog(ctx.params))
        except EnvbuilderError:
            return []
        texts = dict(values_of(facts))
        return _matching(texts, incomplete)

    return complete


def _matching(texts: dict[str, str], incomplete: str) -> list[CompletionItem]:
    """The values that begin like the word, which may be written in any case."""
    start = incomplete.lower()
    items = []
    for value, text in texts.items():
        if value.lower().startswith(start):
            items.append(CompletionItem(value, help=text))
    return items


def _cuda_versions(facts: "Catalog") -> Iterator[tuple[str, str]]:
    versions = {build.cuda for build in facts.torch}
    for version in sorted(versions, reverse=True):
        major = version.major
        minor = version.minor
        yield f"{major}.{minor}", "CUDA"


def _python_versions(facts: "Catalog") -> Iterator[tuple[str, str]]:
    """Those that a torch build supports and a base image has."""
    supported: set[Version] = set()
    for build in facts.torch:
        supported.update(build.pythons)
    available = supported.intersection(facts.policy.registry.pythons)
    for version in sorted(available, reverse=True):
        yield str(version), "Python"


def _torch_versions(facts: "Catalog") -> Iterator[tuple[str, str]]:
    for build in sorted(facts.torch, key=lambda build: build.torch, reverse=True):
        yield str(build.torch), f"released {build.released}"


def _gpu_names(facts: "Catalog") -> Iterator[tuple[str, str]]:
    """`RTX-3090` for `GeForce RTX 3090`: in most shells a blank would end the word."""
    from envbuilder.catalog.gpu_names import find_gpu, named_gpus

    for name, capability in named_gpus(facts):
        word = name.removeprefix("GeForce ").replace(" ", "-")
        gpu = find_gpu(word, facts)
        if gpu is None or gpu.capability != capability:
            word = name
        yield word, f"compute capability {capability}"
    for gpu in facts.gpus:
        yield str(gpu.capability), f"compute capability, {gpu.architecture}"


def _companions(facts: "Catalog") -> Iterator[tuple[str, str]]:
    from envbuilder.resolve.companion_table import companion_table, known_companions

    for name in known_companions(facts):
        newest = companion_table(facts)[name][0]
        yield name, f"{newest.name} {newest.last}"


def _systems(facts: "Catalog") -> Iterator[tuple[str, str]]:
    for system in facts.systems:
        yield system.os.replace(" ", ""), system.release


cuda_versions = _from_catalog(_cuda_versions)
python_versions = _from_catalog(_python_versions)
torch_versions = _from_catalog(_torch_versions)
gpu_names = _from_catalog(_gpu_names)
systems = _from_catalog(_systems)
companions = _from_catalog(_companions)


def flavours(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    texts = {
        "runtime": "trains on a GPU, or on the CPU",
        "devel": "runtime with nvcc and CUDA's headers",
        "cpu": "without CUDA",
    }
    return _matching(texts, incomplete)


def platforms(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from envbuilder.grammar import PLATFORMS

    return _matching(dict.fromkeys(PLATFORMS, "platform"), incomplete)


def bases(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    texts = {
        "auto": "a registry image, else bootstrap",
        "bootstrap": "made from Debian packages",
    }
    return _matching(texts, incomplete)


def targets(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    from envbuilder.render.targets import TARGETS

    return _matching(dict(TARGETS), incomplete)
