"""A stack in addition to its versions: packages, notes, evidence; and when a locked one satisfies a request."""

from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise

import pytest
from marks import few
from packaging.version import Version

from envbuilder import catalog
from envbuilder.catalog.rows import Advisory, Catalog, Evidence
from envbuilder.model import Feature, Request, Stack
from envbuilder.resolve import advisories, objections, resolve, winner
from envbuilder.resolve.candidate_index import REFUSED, CandidateIndex, index_for
from envbuilder.resolve.candidates import PREFERENCES, Candidate, catalog_candidates
from envbuilder.resolve.command_line import parse_request
from envbuilder.resolve.options import OPTIONS

CATALOG = catalog.load()
GPU = next(option for option in OPTIONS if option.name == "gpu")


def request(*packages: str, **options: str) -> Request:
    return parse_request(options, packages)


def resolved(*packages: str, **options: str) -> Stack:
    return resolve(request(*packages, **options), CATALOG)


def candidate(**options: str) -> Candidate:
    return winner(request(**options), CATALOG)


def test_packages_are_sorted_and_may_be_given_unsorted() -> None:
    stack = resolved("rich", "einops", cuda="11.7")
    assert stack.extras == ("einops", "rich")
    assert objections(request("rich", "einops", cuda="11.7"), stack, CATALOG) == []
    assert stack == resolved("einops", "rich", cuda="11.7")


def test_locked_stack_is_checked_against_the_whole_request() -> None:
    stack = resolved("rich", "einops", cuda="11.7")
    wanted = request("b", "a", cuda="11.7", as_of="2024-01-01")
    assert objections(wanted, stack, CATALOG) == [
        "its packages are einops, rich, not b, a",
        f"its packages are as of {stack.as_of}, not 2024-01-01",
    ]
    bare = resolved(cuda="11.7")
    assert objections(request("a", cuda="11.7"), bare, CATALOG) == [
        "its packages are none, not a"
    ]
    assert objections(request(cuda="11.7"), stack, CATALOG) == [
        "its packages are einops, rich, not none"
    ]
    assert objections(request(cuda="11.7", as_of=str(bare.as_of)), bare, CATALOG) == []
    found = objections(request(flavour="cpu", platform="arm64"), bare, CATALOG)
    assert found[:2] == [
        "it is for linux/amd64, not linux/arm64",
        "its flavour is runtime, not cpu",
    ]
    found = objections(request(cuda="12.1"), bare, CATALOG)
    assert [reason.split(" (")[0] for reason in found] == [
        "torch 2.0.1 is built for CUDA 11.7.99"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"torch": Version("2.0.9")}, {"cuda": Version("11.7.98")}, {"python": Version("3.7")},
        {"platform": "linux/arm64"},
    ],
)  # fmt: skip
def test_a_stack_that_the_catalog_does_not_have(changes: dict[str, object]) -> None:
    stack = replace(resolved(cuda="11.7"), **changes)  # type: ignore[arg-type]
    found = objections(request(cuda="11.7", platform=stack.platform), stack, CATALOG)
    said = f"the catalog has no torch {stack.torch} for CUDA {stack.cuda}"
    where = f"on Python {stack.python} for {stack.platform}, on {stack.base.reference}"
    assert found == [f"{said} {where}"]


def test_a_cpu_stack_that_the_catalog_does_not_have() -> None:
    stack = replace(resolved(flavour="cpu", torch="2.0"), torch=Version("2.0.9"))
    found = objections(request(flavour="cpu"), stack, CATALOG)
    assert [text.split(" on ")[0] for text in found] == [
        "the catalog has no torch 2.0.9 without CUDA"
    ]


def test_locked_stack_on_a_custom_base_satisfies_the_request() -> None:
    stack = resolved(cuda="11.7", base="mine", python="3.10")
    assert (
        objections(request(cuda="11.7", base="mine", python="3.10"), stack, CATALOG)
        == []
    )
    other = objections(
        request(cuda="11.7", base="other", python="3.10"), stack, CATALOG
    )
    said = "the catalog has no torch 2.0.1 for CUDA 11.7.99 on Python 3.10 for linux/amd64, on mine"
    assert other == [said]
    cpu = resolved(flavour="cpu", torch="2.0")
    assert objections(request(flavour="cpu", torch="2.0"), cpu, CATALOG) == []


def advisory(package: str, fixed: str) -> Advisory:
    return replace(CATALOG.advisories[0], package=package, fixed=Version(fixed))


def test_vulnerability_is_reported_until_the_fixed_version() -> None:
    rows = (
        advisory("torch", "2.0.1"),
        advisory("torch", "2.0.2"),
        advisory("runc", "9"),
    )
    facts = replace(CATALOG, advisories=rows)
    assert advisories(resolved(cuda="11.7"), facts) == [rows[1]]


# --- notes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "noted"),
    [
        ("450.80.02", False),
        ("450", True),
        ("450.80", True),
        ("450.80.03", False),
        ("451", False),
    ],
)
def test_driver_branch_names_its_first_working_version(
    driver: str, noted: bool
) -> None:
    note = f"driver {driver} has to be 450.80.02 or newer"
    assert resolved(cuda="11.7", driver=driver).notes == ((note,) if noted else ())


def test_gpu_determines_the_driver_if_none_was_requested() -> None:
    last = next(
        row
        for row in CATALOG.compatibility
        if row.kind == "last driver branch" and "Volta" in row.says
    )
    assert f"{last.says} ({last.source})" in resolved(gpu="V100").notes
    assert resolved(gpu="V100", driver="580.65.06").notes == ()
    newer = next(row for row in CATALOG.toolkits if row.cuda == Version("11.8.0"))
    stack = resolve(request(gpu="RTX 4090", cuda="11.7"), CATALOG)
    said = f"the GPU needs a driver of branch 520 or newer ({newer.source})"
    assert stack.notes == (said,)


@pytest.mark.parametrize(("days", "noted"), [(-1, False), (0, True), (1, True)])
def test_end_of_life_is_reported_from_its_day_on(days: int, noted: bool) -> None:
    day = resolved(cuda="11.7", base="bootstrap").base.end_of_life
    assert day is not None
    facts = replace(CATALOG, date=day + timedelta(days=days))
    stack = resolve(request(cuda="11.7", base="bootstrap"), facts)
    note = f"Debian 11 is past its end of life ({day}): it gets no security updates"
    assert stack.notes == ((note,) if noted else ())


def test_notes_for_a_custom_base() -> None:
    stack = resolved(cuda="11.7", base="mine", python="3.10", flavour="devel")
    assert stack.notes == (
        "nvcc of CUDA 11.7 must be in mine, in /usr/local/cuda: no wheel brings it",
        "nothing is known about mine: it must be Debian-like, with Python 3.10 and glibc 2.28 or newer",
    )
    named = resolved(cuda="11.7", base="mine", python="3.10", os="debian12")
    note = "nothing is known about mine: it must be Debian-like, with Python 3.10 and glibc 2.16 or newer"
    assert named.notes == (note,)
    system = next(row for row in CATALOG.systems if row.os == "debian 12")
    base = named.base
    assert (base.os, base.glibc, base.end_of_life, base.release) == (
        system.os,
        system.glibc,
        system.last_day,
        "",
    )
    unknown = resolved(cuda="11.7", base="mine", python="3.10", os="ubuntu26.04").base
    assert (unknown.os, str(unknown.glibc)) == ("ubuntu 26.04", "2.28")


def test_cuda_release_and_runtime_version_are_distinguished() -> None:
    row = next(row for row in CATALOG.runtimes if row.release == Version("11.7.1"))
    said = f"11.7.99 is the number of CUDA's runtime in toolkit 11.7.1 ({row.source})"
    assert resolved(cuda="11.7.1").notes == (said,)
    said = "no torch is built with CUDA 11.7.0; it is with 11.7.1, which runs what is made for 11.7.0"
    assert resolved(cuda="11.7.0").notes == (said,)
    assert resolved(cuda="11.7").notes == resolved(cuda="11.7.99").notes == ()
    another = replace(row, release=Version("11.7.2"))
    stack = resolve(
        request(cuda="11.7.0"), replace(CATALOG, runtimes=(*CATALOG.runtimes, another))
    )
    said = "no torch is built with CUDA 11.7.0; it is with 11.7.1 and 11.7.2, which runs what is made for 11.7.0"
    assert stack.notes == (said,)


def test_wheels_on_another_index_are_noted() -> None:
    said = (
        "the torch family is from PyTorch's own index for {}, everything else from PyPI"
    )
    assert resolved(cuda="11.8", torch="2.5").notes == (
        said.format("CUDA 11.8 (https://download.pytorch.org/whl/cu118)"),
    )
    assert resolved(flavour="cpu", torch="2.5").notes == (
        said.format("CPUs (https://download.pytorch.org/whl/cpu)"),
    )


# --- what is installed ---------------------------------------------------------------------------------------------


def test_the_family_is_pinned_and_the_rest_bounded() -> None:
    names = CATALOG.policy.packages.requirements
    stack = resolved(cuda="11.7")
    bounds = {"numpy": "<2", "transformers": "<=4.49.0"}
    family = ("torch==2.0.1", "torchvision==0.15.2", "torchaudio==2.0.2")
    assert stack.requirements == (
        *family,
        *(name + bounds.get(name, "") for name in names),
    )
    newer = resolved(torch="2.12", cuda="13.0")
    assert newer.torchaudio is None
    assert newer.requirements[:3] == (
        f"torch=={newer.torch}",
        f"torchvision=={newer.torchvision}",
        names[0],
    )
    assert "numpy" in newer.requirements


def test_wheels_of_another_index_have_its_local_version() -> None:
    elsewhere = resolved(cuda="11.8", torch="2.5")
    assert elsewhere.requirements[:3] == (
        "torch==2.5.1+cu118", f"torchvision=={elsewhere.torchvision}+cu118", f"torchaudio=={elsewhere.torchaudio}+cu118"
    )  # fmt: skip
    cpu = resolved(flavour="cpu", torch="2.5")
    assert cpu.requirements[0] == "torch==2.5.1+cpu"
    none = (
        cpu.cuda,
        cpu.cudnn,
        cpu.nccl,
        cpu.triton,
        cpu.arch_list,
        cpu.driver_floor,
        cpu.unknown,
    )
    assert none == (None, None, None, None, (), "", ())


def test_devel_adds_compilers_and_headers() -> None:
    devel = CATALOG.policy.devel
    assert devel is not None
    compiler = devel.compilers["13.0"]
    runtime, made = resolved(cuda="13.0"), resolved(cuda="13.0", flavour="devel")
    assert made.requirements == (
        *runtime.requirements,
        *devel.packages,
        *compiler.requirements,
    )
    own = resolved(cuda="11.7", base="mine", python="3.10", flavour="devel")
    plain = resolved(cuda="11.7", base="mine", python="3.10")
    assert own.requirements == (*plain.requirements, *devel.packages)


@pytest.mark.parametrize(
    ("wanted", "bound"),
    [
        (None, "<=4.55.4"),
        ("4", "==4.*,<=4.55.4,!=4.52.4"),
        ("4.52", "==4.52.*,<=4.55.4,!=4.52.4"),
        ("4.51", "==4.51.*,<=4.55.4"),
        ("4.52.3", "==4.52.3"),
    ],
)
def test_how_transformers_is_bounded(wanted: str | None, bound: str) -> None:
    options = {"torch": "2.1.2"} | ({"transformers": wanted} if wanted else {})
    assert f"transformers{bound}" in resolved(**options).requirements


# --- evidence ------------------------------------------------------------------------------------------------------


def weaker(**changes: Evidence) -> Catalog:
    """The catalog with one of its tables of another status."""
    tables = {
        name: tuple(replace(row, status=status) for row in getattr(CATALOG, name))
        for name, status in changes.items()
    }
    return replace(CATALOG, **tables)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "tables"),
    few(
        [
            ({"cuda": "11.7"}, {"torch", "transformers", "systems"}),
            (
                {"cuda": "11.7", "gpu": "A100"},
                {"torch", "transformers", "systems", "gpus"},
            ),
            ({"cuda": "11.7", "gpu": "8.0"}, {"torch", "transformers", "systems"}),
            (
                {"cuda": "11.7", "gpu": "A100", "driver": "470"},
                {"torch", "transformers", "systems", "gpus", "toolkits"},
            ),
            ({"cuda": "11.7.1"}, {"torch", "transformers", "systems", "runtimes"}),
            ({"cuda": "11.7.99"}, {"torch", "transformers", "systems"}),
        ],
    ),
)
def test_stack_has_the_weakest_status_of_its_facts(
    options: dict[str, str], tables: set[str]
) -> None:
    every = (
        "torch",
        "transformers",
        "systems",
        "gpus",
        "toolkits",
        "runtimes",
        "compatibility",
    )
    best = weaker(**dict.fromkeys(every, Evidence.VERIFIED))
    assert resolve(request(**options), best).evidence == "verified"
    found = set()
    for name in every:
        rows = tuple(
            replace(row, status=Evidence.INFERRED) for row in getattr(best, name)
        )
        if (
            resolve(request(**options), replace(best, **{name: rows})).evidence
            == "inferred"
        ):
            found.add(name)
    assert found == tables


# --- candidates ----------------------------------------------------------------------------------------------------


def test_compile_works_below_the_python_it_fails_on() -> None:
    best = candidate(cuda="11.7")
    build = best.build
    source = build.compile_source
    assert best.features == (
        Feature(name="torch.compile", available=True, reason="", source=source),
    )
    later = replace(best, python=Version("3.11"))
    reason = "torch 2.0.1 raises on Python 3.11 and later"
    assert later.features == (
        Feature(name="torch.compile", available=False, reason=reason, source=source),
    )
    never = replace(best, build=replace(build, compile=False))
    [found] = never.features
    assert (found.available, found.reason) == (
        False,
        "torch 2.0.1 has no torch.compile",
    )
    assert not never.has_torch_compile
    assert replace(later, build=replace(build, compile_until=None)).has_torch_compile


def test_every_candidate_exists_once_and_is_complete() -> None:
    found = catalog_candidates(CATALOG)
    keys = [
        (id(c.build), c.python, c.base.reference, c.base.os, c.platform, c.cpu)
        for c in found
    ]
    assert len(set(keys)) == len(keys)
    for one in found:
        pythons = one.build.family.get(one.platform, one.build.pythons)
        assert one.python in pythons
        assert one.cpu or one.platform in one.build.platforms
        assert one.custom is (one.base.os == "custom")
        if one.base.reference.startswith("python:"):
            assert one.base.reference == f"python:{one.python}-slim-bookworm"
            assert one.base.os == "debian 12"
    releases = {one.build.torch for one in found if not one.cpu}
    assert {(one.build.torch, one.platform) for one in found if one.cpu} == {
        (torch, platform)
        for torch in releases
        for platform in ("linux/amd64", "linux/arm64")
    }


def test_candidates_are_sorted_by_policy() -> None:
    found = catalog_candidates(CATALOG)
    for better, worse in pairwise(found):
        pair = [
            [PREFERENCES[word].merit(one) for word in CATALOG.policy.preference]
            for one in (better, worse)
        ]
        assert pair[0] >= pair[1]
    assert set(PREFERENCES) == set(CATALOG.policy.preference)


def test_unknown_glibc_is_treated_as_manylinux_2_28() -> None:
    row = replace(CATALOG.systems[1], glibc=None)
    facts = replace(CATALOG, systems=(CATALOG.systems[0], row, *CATALOG.systems[2:]))
    stack = resolve(request(cuda="11.7"), facts)
    assert (stack.base.os, str(stack.base.glibc)) == ("debian 12", "2.28")
    own = resolved(cuda="11.7", base="mine", python="3.10").base
    packages = CATALOG.policy.registry.system_packages
    assert (own.os, str(own.glibc), own.system_packages, own.end_of_life) == (
        "custom",
        "2.28",
        packages,
        None,
    )


def test_a_bootstrapped_base_is_named_by_its_system() -> None:
    bootstrap = CATALOG.policy.bootstrap
    base = resolved(cuda="11.7", base="bootstrap").base
    assert base.reference == bootstrap.reference.format(number="11")
    more = bootstrap.more_packages.get("debian 11", ())
    assert base.system_packages == tuple(sorted({*bootstrap.system_packages, *more}))
    assert (base.os, base.release, str(base.glibc)) == ("debian 11", "bullseye", "2.31")


# --- the day -------------------------------------------------------------------------------------------------------


def test_stack_has_the_requested_day() -> None:
    assert resolved(cuda="11.7", as_of="2024-02-03").as_of == date(2024, 2, 3)


# --- the index of candidates ---------------------------------------------------------------------------------------


def test_the_grid_has_a_number_for_each_combination() -> None:
    made = index_for(CATALOG)
    axes = {
        "cuda": [None, Version("11.7"), Version("12.1")],
        "driver": [None, Version("470.57.02")],
    }
    found = list(made.grid(axes))
    cells = [(cuda, driver) for cuda in axes["cuda"] for driver in axes["driver"]]
    assert len(found) == len(cells)
    for number, (cuda, driver) in zip(found, cells, strict=True):
        best = made.best(Request(cuda=cuda, driver=driver))
        assert (made.candidates[number] if number != REFUSED else None) is best
    assert found[-1] == REFUSED


def test_empty_mask_has_no_candidate() -> None:
    made = CandidateIndex(replace(CATALOG, torch=CATALOG.torch[:2]))
    assert made.first(0) is None
    assert made.first(1) is made.candidates[0]
    assert made.first(0b110) is made.candidates[1]
    assert made.first(1 << len(made.candidates)) is made.candidates[0]
    assert made.mask_for(GPU, None) == -1
    assert made.first(made.matching(request(torch="99"), ())) is made.best(Request())
