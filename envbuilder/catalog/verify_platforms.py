"""The checks of what torch stands on: systems, drivers, GPUs, images."""

import re
from collections.abc import Iterator
from itertools import pairwise

from packaging.version import Version

from envbuilder.catalog import GPUS, IMAGES, SYSTEMS, TOOLKITS
from envbuilder.catalog.observations import ImageState
from envbuilder.catalog.verify import Check, Facts, Problem, differing, problem, shown

FLAVOUR = re.compile(r"(cudnn[0-9]*-|tensorrt-)?(base|runtime|devel)")


def dates_of_systems_are_in_order(facts: Facts) -> Iterator[Problem]:
    """Released, then the end of the free updates, then of those that are given longer."""
    for row in facts.catalog.systems:
        names = [name for name in ("released", "end_of_life", "long_term") if getattr(row, name)]
        for earlier, later in pairwise(names):
            if getattr(row, later) < getattr(row, earlier):
                yield problem(SYSTEMS, row, later, f"is {getattr(row, later)}, before {earlier}")


def toolkits_have_the_floor_of_their_major(facts: Facts) -> Iterator[Problem]:
    """Minor-version compatibility is per CUDA major; before CUDA 11 a toolkit asks for its own driver."""
    for row in facts.catalog.toolkits:
        floor = facts.floors.get(str(row.cuda.major), row.driver)  # before there were minors: its own driver
        yield from differing(TOOLKITS, row, {"driver_floor": floor}, f"for CUDA {row.cuda.major} it is")


def drivers_never_go_back(facts: Facts) -> Iterator[Problem]:
    """A newer toolkit does not come with an older driver."""
    known = sorted((row for row in facts.catalog.toolkits if row.driver), key=lambda row: row.cuda)
    for older, newer in pairwise(known):
        if Version(str(newer.driver)) < Version(str(older.driver)):
            yield problem(TOOLKITS, newer, "driver", f"is {newer.driver}; CUDA {older.cuda} came with {older.driver}")


def gpu_names_are_unique_and_have_a_family(facts: Facts) -> Iterator[Problem]:
    """A name means one compute capability, and `families` holds the same names as `names`."""
    seen: dict[str, Version] = {}
    for row in facts.catalog.gpus:
        in_families = {name for names in row.families.values() for name in names}
        if in_families != set(row.names):
            yield problem(GPUS, row, "families", f"and names differ in {shown(sorted(in_families ^ set(row.names)))}")
        for name in row.names:
            if name in seen:
                yield problem(GPUS, row, "names", f"{name} is of {seen[name]} too")
            seen[name] = row.capability


def gpus_have_the_toolkits_of_their_architecture(facts: Facts) -> Iterator[Problem]:
    """The first and the last CUDA that compiles for a GPU are those of architectures.json."""
    for row in facts.catalog.gpus:
        arch = f"sm_{row.capability.major}{row.capability.minor}"
        if arch not in facts.architectures:
            yield problem(GPUS, row, "capability", f"{arch} is in no row of architectures.json")
            continue
        first, stopped = facts.architectures[arch]
        before = [line for line in facts.lines_of_cuda if stopped and line < stopped.release[:2]]
        wanted: dict[str, object] = {"last_cuda": Version(".".join(map(str, max(before)))) if before else None}
        if first:
            wanted["first_cuda"] = first
        yield from differing(GPUS, row, wanted, "architectures.json makes it")


def images_have_tags_of_their_own(facts: Facts) -> Iterator[Problem]:
    """Flavours are such as NVIDIA has, and what was pulled is one of the tags."""
    for row in facts.rows(IMAGES):
        for flavour in row.flavours:
            if not FLAVOUR.fullmatch(flavour):
                yield problem(IMAGES, row, "flavours", f"{flavour!r} is none that there is")
        for tag in row.pulled:
            if row.os != "*" and tag not in row.tags:
                yield problem(IMAGES, row, "pulled", f"{tag} is none of its tags")


def images_are_in_a_state_that_can_be(facts: Facts) -> Iterator[Problem]:
    """Recent is what was never on a list, and nothing else."""
    for row in facts.rows(IMAGES):
        if (row.listed is None) != (row.state is ImageState.RECENT):
            yield problem(IMAGES, row, "state", f"is {row.state}, and it was last listed {row.listed or 'never'}")


CHECKS: tuple[Check, ...] = (
    dates_of_systems_are_in_order,
    toolkits_have_the_floor_of_their_major,
    drivers_never_go_back,
    gpu_names_are_unique_and_have_a_family,
    gpus_have_the_toolkits_of_their_architecture,
    images_have_tags_of_their_own,
    images_are_in_a_state_that_can_be,
)
