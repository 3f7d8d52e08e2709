"""The checks of what torch runs on: systems, drivers, GPUs, images."""

import re
from collections.abc import Iterator
from itertools import pairwise

from packaging.version import Version

from envbuilder.catalog import GPU_NAMES, GPUS, IMAGES, SYSTEMS, TOOLKITS
from envbuilder.catalog.observations import ImageState
from envbuilder.catalog.verify import (
    CatalogFacts,
    Check,
    Problem,
    differing,
    problem,
    shown,
)

FLAVOUR = re.compile(r"(cudnn[0-9]*-|tensorrt-)?(base|runtime|devel)")


def dates_of_systems_are_in_order(facts: CatalogFacts) -> Iterator[Problem]:
    """Released, then the end of the free updates, then of those that are given longer."""
    for row in facts.catalog.systems:
        names = [
            name
            for name in ("released", "end_of_life", "long_term")
            if getattr(row, name)
        ]
        for earlier, later in pairwise(names):
            day = getattr(row, later)
            if day < getattr(row, earlier):
                yield problem(SYSTEMS, row, later, f"is {day}, before {earlier}")


def toolkits_have_the_floor_of_their_major(facts: CatalogFacts) -> Iterator[Problem]:
    """Minor-version compatibility is per CUDA major; before CUDA 11 a toolkit needs its own driver."""
    for row in facts.catalog.toolkits:
        major = str(row.cuda.major)
        floor = facts.floors.get(major, row.driver)
        yield from differing(
            TOOLKITS, row, {"driver_floor": floor}, f"for CUDA {major} it is"
        )


def drivers_never_go_back(facts: CatalogFacts) -> Iterator[Problem]:
    """A newer toolkit does not come with an older driver."""
    toolkits = []
    for row in facts.catalog.toolkits:
        if row.driver:
            toolkits.append(row)
    toolkits.sort(key=lambda row: row.cuda)
    for older, newer in pairwise(toolkits):
        before = Version(str(older.driver))
        after = Version(str(newer.driver))
        if after >= before:
            continue
        says = f"is {newer.driver}; CUDA {older.cuda} came with {older.driver}"
        yield problem(TOOLKITS, newer, "driver", says)


def gpu_names_are_unique_and_have_a_family(facts: CatalogFacts) -> Iterator[Problem]:
    """A name means one compute capability, and `families` holds the same names as `names`."""
    seen: dict[str, Version] = {}
    for row in facts.catalog.gpus:
        in_families: set[str] = set()
        for names in row.families.values():
            in_families.update(names)
        different = in_families ^ set(row.names)
        if different:
            yield problem(
                GPUS, row, "families", f"and names differ in {shown(sorted(different))}"
            )
        for name in row.names:
            if name in seen:
                yield problem(GPUS, row, "names", f"{name} also has {seen[name]}")
            seen[name] = row.capability


def further_names_are_of_known_gpus(facts: CatalogFacts) -> Iterator[Problem]:
    """Each row of names has a row of its capability, and no name that NVIDIA's page gives to another one."""
    of_page = {}
    for gpu in facts.catalog.gpus:
        for name in gpu.names:
            of_page[name] = gpu.capability
    known = set(of_page.values())
    for row in facts.catalog.gpu_names:
        if row.capability not in known:
            yield problem(GPU_NAMES, row, "capability", "is in no row of gpus.json")
        for name in row.names:
            other = of_page.get(name, row.capability)
            if other != row.capability:
                yield problem(GPU_NAMES, row, "names", f"{name} also has {other}")


def gpus_have_the_toolkits_of_their_architecture(
    facts: CatalogFacts,
) -> Iterator[Problem]:
    """The first and the last CUDA that compiles for a GPU are those of architectures.json."""
    for row in facts.catalog.gpus:
        arch = f"sm_{row.capability.major}{row.capability.minor}"
        if arch not in facts.architectures:
            yield problem(
                GPUS, row, "capability", f"{arch} is in no row of architectures.json"
            )
            continue
        first, stopped = facts.architectures[arch]
        expected: dict[str, object] = {"last_cuda": _last_before(stopped, facts)}
        if first:
            expected["first_cuda"] = first
        yield from differing(GPUS, row, expected, "architectures.json makes it")


def _last_before(stopped: Version | None, facts: CatalogFacts) -> Version | None:
    """The last CUDA line before the one that stopped to compile for an architecture; None if none has."""
    if stopped is None:
        return None
    earlier = [line for line in facts.lines_of_cuda if line < stopped.release[:2]]
    if not earlier:
        return None
    return Version(".".join(str(part) for part in max(earlier)))


def images_have_tags_of_their_own(facts: CatalogFacts) -> Iterator[Problem]:
    """Flavors are such as NVIDIA has, and what was pulled is one of the tags."""
    for row in facts.rows(IMAGES):
        for flavour in row.flavours:
            if not FLAVOUR.fullmatch(flavour):
                yield problem(
                    IMAGES,
                    row,
                    "flavours",
                    f"{flavour!r} is not a flavor of nvidia/cuda",
                )
        for tag in row.pulled:
            if row.os != "*" and tag not in row.tags:
                yield problem(IMAGES, row, "pulled", f"{tag} is not one of its tags")


def images_are_in_a_possible_state(facts: CatalogFacts) -> Iterator[Problem]:
    """Recent is what was never on a list, and nothing else."""
    for row in facts.rows(IMAGES):
        never_listed = row.listed is None
        if never_listed != (row.state is ImageState.RECENT):
            yield problem(
                IMAGES,
                row,
                "state",
                f"is {row.state}, and it was last listed {row.listed or 'never'}",
            )


CHECKS: tuple[Check, ...] = (
    dates_of_systems_are_in_order,
    toolkits_have_the_floor_of_their_major,
    drivers_never_go_back,
    gpu_names_are_unique_and_have_a_family,
    further_names_are_of_known_gpus,
    gpus_have_the_toolkits_of_their_architecture,
    images_have_tags_of_their_own,
    images_are_in_a_possible_state,
)
