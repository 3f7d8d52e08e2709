"""Every rule alone: what it lets pass, and the one sentence it says against torch 2.0.1 for CUDA 11.7."""

from dataclasses import replace

import pytest
from packaging.version import Version

from envbuilder import catalog
from envbuilder.catalog.gpu_names import find_gpu
from envbuilder.catalog.gpus import server_wheels
from envbuilder.catalog.lookup import (
    find_system,
    has_apt,
    matching_cuda_versions,
    matching_releases,
    newest_transformers,
    oldest_transformers,
)
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve import options, rules
from envbuilder.resolve.candidate_index import CandidateIndex, index_for
from envbuilder.resolve.candidates import Candidate, nearest_run, nvcc_for, runs_by_line
from envbuilder.resolve.command_line import parse_request
from envbuilder.resolve.request_rows import look_up
from envbuilder.resolve.stack import make_stack
from envbuilder.versions import matches_prefix

CATALOG = catalog.load()
RULES = {option.name: option.rule for option in options.OPTIONS} | {
    "": rules.glibc_objection
}


def request(**options: str) -> Request:
    return parse_request(options)


def candidate(**options: str) -> Candidate:
    found = index_for(CATALOG).best(request(**options))
    assert found is not None
    return found


GUIDE = candidate(cuda="11.7")
CPU = candidate(flavour="cpu", torch="2.0")
OWN = candidate(cuda="11.7", base="mine", python="3.10")
SOURCE = GUIDE.build.source
TOOLKIT_SOURCE = next(
    row.source for row in CATALOG.toolkits if str(row.cuda) == "11.8.0"
)


def system_source(name: str) -> str:
    return next(row.source for row in CATALOG.systems if row.os == name)


def says(
    option: str, against: Candidate, facts: Catalog = CATALOG, **options: str
) -> str | None:
    reason = RULES[option](look_up(request(**options), facts), against)
    return reason.with_sources if reason else None


def in_catalog(found: Candidate, facts: Catalog) -> Candidate:
    """The candidate with the facts that another catalog has of it."""
    build = found.build
    return replace(
        found,
        transformers_run=nearest_run(build.torch, found.python, runs_by_line(facts)),
        nvcc=nvcc_for(build.cuda, facts),
    )


@pytest.mark.parametrize("option", sorted(RULES))
def test_options_not_requested_cause_no_objection(option: str) -> None:
    assert says(option, GUIDE) is None


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("cuda", "12.1", f"torch 2.0.1 is built for CUDA 11.7.99 ({SOURCE})"),
        (
            "cudnn",
            "9",
            f"torch 2.0.1 for CUDA 11.7.99 is built for cuDNN 8.5.0.96 ({SOURCE})",
        ),
        ("torch", "2.1", f"CUDA 11.7.99 comes with torch 2.0.1 ({SOURCE})"),
        (
            "torchvision",
            "0.14",
            f"torch 2.0.1 comes with torchvision 0.15.2 ({SOURCE})",
        ),
        (
            "driver",
            "450.80.01",
            f"CUDA 11.7.99 needs driver 450.80.02 or newer ({SOURCE})",
        ),
        ("driver", "449", f"CUDA 11.7.99 needs driver 450.80.02 or newer ({SOURCE})"),
        ("flavour", "cpu", "flavour cpu is torch without CUDA"),
        (
            "platform",
            "arm64",
            f"torch 2.0.1 has CUDA wheels only for linux/amd64 ({SOURCE})",
        ),
        (
            "as_of",
            "2023-05-07",
            f"torch 2.0.1 was released on 2023-05-08, after 2023-05-07 ({SOURCE})",
        ),
        (
            "transformers",
            "4.17",
            "transformers 4.17 is older than any in the catalog, 4.18.0",
        ),
        (
            "os",
            "debian11",
            f"python:3.10-slim-bookworm is debian 12 ({system_source('debian 12')})",
        ),
    ],
)
def test_the_reason_of_a_rule(option: str, value: str, said: str) -> None:
    assert says(option, GUIDE, **{option: value}) == said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cuda", "11.7"), ("cudnn", "8.5.0.96"), ("torch", "2.0"), ("torchvision", "0.15.2"), ("driver", "450.80.02"),
        ("driver", "450"), ("flavour", "runtime"), ("platform", "amd64"), ("as_of", "2023-05-08"), ("os", "debian12"),
        ("os", "bookworm"), ("python", "3.10"), ("gpu", "8.6"), ("gpu", "8.9"), ("base", "auto"),
        ("transformers", "4.18"), ("transformers", "4"),
    ],
)  # fmt: skip
def test_values_that_rules_allow(option: str, value: str) -> None:
    assert says(option, GUIDE, **{option: value}) is None


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("cuda", "11.7", "flavour cpu has no CUDA"),
        ("cudnn", "8", "flavour cpu has no cuDNN"),
        ("gpu", "8.6", "flavour cpu uses no GPU"),
        ("driver", "1", None),
    ],
)
def test_a_build_without_cuda(option: str, value: str, said: str | None) -> None:
    assert says(option, CPU, **{option: value, "flavour": "cpu"}) == said
    assert CPU.name == "torch 2.0.1 without CUDA"
    assert (
        says("flavour", CPU)
        == "torch 2.0.1 without CUDA is for flavour cpu, not runtime"
    )
    assert says("flavour", CPU, flavour="cpu") is None


def test_wheels_depend_on_the_platform() -> None:
    said = f"this is its wheel for linux/amd64; there is another one for linux/arm64 ({SOURCE})"
    assert says("platform", CPU, flavour="cpu", platform="arm64") == said
    both = replace(
        GUIDE, build=replace(GUIDE.build, platforms=("linux/amd64", "linux/arm64"))
    )
    assert says("platform", both, platform="arm64") == said
    only = replace(GUIDE, platform="linux/arm64")
    assert (
        says("platform", only)
        == f"this is its wheel for linux/arm64; there is another one for linux/amd64 ({SOURCE})"
    )


def test_missing_kernels_of_a_gpu() -> None:
    named = "torch 2.0.1 for CUDA 11.7.99 has"
    gpu = find_gpu("H100", CATALOG)
    assert gpu is not None
    sources = f"({SOURCE}; {gpu.source})"
    needed = f"compute capability 9.0 needs sm_90 {sources}"
    assert says("gpu", GUIDE, gpu="9.0") == f"{named} kernels up to sm_86; {needed}"
    assert (
        says("gpu", GUIDE, gpu="H100")
        == f"{named} kernels up to sm_86; H100 needs sm_90 {sources}"
    )
    assert says("gpu", GUIDE, gpu="no such GPU") == "GPU no such GPU is unknown"
    bare = replace(GUIDE, build=replace(GUIDE.build, arch_list=()))
    assert (
        says("gpu", bare, gpu="9.0")
        == f"{named} no kernels for any known GPU; {needed}"
    )
    ptx = replace(GUIDE, build=replace(GUIDE.build, ptx=("compute_86",)))
    assert says("gpu", ptx, gpu="9.0") is None
    newer = replace(
        GUIDE, build=replace(GUIDE.build, ptx=("compute_86",), arch_list=())
    )
    found = says("gpu", newer, gpu="8.0")
    assert found is not None
    assert found.startswith(
        f"{named} kernels from compute_86 on; compute capability 8.0 needs sm_80 ("
    )
    gap = replace(
        GUIDE, build=replace(GUIDE.build, arch_list=("sm_70", "sm_90", "sm_120"))
    )
    found = says("gpu", gap, gpu="8.0")
    assert found is not None
    assert found.startswith(
        f"{named} kernels for sm_70 sm_90 sm_120; compute capability 8.0 needs sm_80 ("
    )


def test_arm64_facts_apply_to_arm64_only() -> None:
    build = replace(GUIDE.build, arch_list_arm64=("sm_90",))
    assert replace(GUIDE, build=build).gpu_targets == GUIDE.build.arch_list
    assert replace(GUIDE, build=build, platform="linux/arm64").gpu_targets == ("sm_90",)
    assert replace(GUIDE, platform="linux/arm64").gpu_targets == GUIDE.build.arch_list
    ptx = replace(build, ptx=("compute_120",))
    assert replace(GUIDE, build=ptx, platform="linux/arm64").gpu_targets == (
        "sm_90",
        "compute_120",
    )


def jetson_says(gpu: str, platform: str, facts: Catalog = CATALOG) -> str | None:
    reason = rules.processor_objection(look_up(request(gpu=gpu), facts), platform)
    return reason.with_sources if reason else None


def test_a_jetson() -> None:
    orin, thor = find_gpu("Jetson AGX Orin", CATALOG), find_gpu("Jetson T5000", CATALOG)
    since = server_wheels(CATALOG)
    assert orin is not None
    assert thor is not None
    assert since is not None
    own = (
        f"Jetson AGX Orin, a Jetson of architecture {orin.architecture}, runs no wheel for servers; "
        "use NVIDIA's own wheels and images for Jetson"
    )
    assert (
        jetson_says("Jetson AGX Orin", "linux/arm64")
        == f"{own} ({orin.source}; {since.source})"
    )
    without = replace(CATALOG, compatibility=())
    assert (
        jetson_says("Jetson AGX Orin", "linux/arm64", without)
        == f"{own} ({orin.source})"
    )
    assert jetson_says("Jetson T5000", "linux/arm64") is None
    assert jetson_says("Jetson T5000", "linux/amd64") == (
        f"Jetson T5000 is a Jetson with an arm64 processor: use `--platform linux/arm64` ({thor.source})"
    )
    assert jetson_says("H100", "linux/amd64") is None


def mismatch(**options: str) -> str | None:
    reason = rules.driver_gpu_mismatch(look_up(request(**options), CATALOG))
    return reason.with_sources if reason else None


def test_driver_without_support_for_the_gpu_is_refused() -> None:
    hopper, volta = find_gpu("H100", CATALOG), find_gpu("V100", CATALOG)
    assert hopper is not None
    assert volta is not None
    assert mismatch(gpu="H100", driver="470.57.02") == (
        "H100 (Hopper) needs driver 520.61.05 or newer, which came with CUDA 11.8, the first to support it; "
        f"driver 470.57.02 is older ({hopper.source}; {TOOLKIT_SOURCE})"
    )
    last = next(
        row
        for row in CATALOG.compatibility
        if row.kind == "last driver branch" and "Volta" in row.says
    )
    too_new = f"V100 (Volta) needs driver branch 580 or older: {last.says} ({volta.source}; {last.source})"
    assert mismatch(gpu="V100", driver="590") == too_new
    for fine in (
        {"gpu": "V100", "driver": "580"},
        {"gpu": "V100"},
        {"driver": "590"},
        {"gpu": "H100", "driver": "520"},
    ):
        assert mismatch(**fine) is None
    wanted = look_up(request(gpu="V100", driver="590"), CATALOG)
    assert rules.driver_and_gpu_objection(wanted, GUIDE) == rules.driver_gpu_mismatch(
        wanted
    )
    assert rules.driver_and_gpu_objection(wanted, CPU) is None


# --- CUDA ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("11.7", {"11.7.99"}),
        ("11.7.99", {"11.7.99"}),
        ("11.7.0", {"11.7.99"}),
        ("11.7.1", {"11.7.99"}),
        ("11.7.2", set()),
        ("11.5", set()),
        ("13.0.2", {"13.0.2"}),
    ],
)
def test_the_builds_that_a_cuda_version_means(said: str, meant: set[str]) -> None:
    assert {
        str(version) for version in matching_cuda_versions(Version(said), CATALOG)
    } == meant


def test_a_major_of_cuda_means_all_of_its_lines() -> None:
    lines = {build.cuda for build in CATALOG.torch if build.cuda.major == 12}
    assert matching_cuda_versions(Version("12"), CATALOG) == lines
    assert matching_cuda_versions(Version("12.0"), CATALOG) == frozenset()


@pytest.mark.parametrize(
    ("wanted", "version", "answer"),
    [
        ("11.7", "11.7.99", True), ("11.7", "11.7", True), ("11", "11.7.99", True), ("11.7.1", "11.7.99", False),
        ("11.70", "11.7.99", False), ("11.7.99.1", "11.7.99", False), ("2.1", "2.1rc1", False),
        ("2.1rc1", "2.1rc1", True), ("2.0", "2.0.1", True), ("2.0.0", "2.0.1", False),
    ],
)  # fmt: skip
def test_version_prefix_matches_longer_versions(
    wanted: str, version: str, answer: bool
) -> None:
    assert matches_prefix(Version(wanted), Version(version)) is answer


# --- devel ---------------------------------------------------------------------------------------------------------


def test_missing_compiler_gives_reason_and_alternative() -> None:
    assert says("flavour", GUIDE, flavour="devel") is None
    assert CATALOG.policy.devel is not None
    devel = replace(CATALOG.policy.devel, images={})
    catalog = replace(CATALOG, policy=replace(CATALOG.policy, devel=devel))
    guide = replace(GUIDE, toolkit=None)
    why = devel.without["11"]
    own = "use a base image that has it: `--base IMAGE --python X.Y`"
    said = f"no PyPI package provides nvcc for CUDA 11.7 ({why.says}); {own} ({why.source})"
    assert says("flavour", guide, catalog, flavour="devel") == said
    without = replace(CATALOG, policy=replace(CATALOG.policy, devel=None))
    bare = f"no PyPI package provides nvcc for CUDA 11.7; {own}"
    assert says("flavour", guide, without, flavour="devel") == bare
    assert nvcc_for(Version("13.0"), without) is None
    assert says("flavour", OWN, flavour="devel", base="mine", python="3.10") is None
    line = candidate(cuda="13.0")
    assert line.nvcc == devel.compilers["13.0"]
    assert says("flavour", line, flavour="devel") is None


# --- transformers --------------------------------------------------------------------------------------------------


def row_of(torch: str, python: str, newest: str) -> object:
    template = CATALOG.transformers[0]
    return replace(
        template,
        torch=Version(torch),
        python=Version(python),
        newest=Version(newest),
        broken=(),
        source=newest,
    )


def with_rows(*rows: object) -> Catalog:
    return replace(CATALOG, transformers=rows)  # type: ignore[arg-type]


def test_the_bound_of_transformers_is_that_of_the_nearest_python() -> None:
    rows = (
        row_of("2.0.0", "3.8", "4.40"),
        row_of("2.0.1", "3.12", "4.41"),
        row_of("2.1.0", "3.10", "4.42"),
    )
    found = in_catalog(GUIDE, with_rows(*rows)).transformers_run
    assert (found and str(found.newest)) == "4.40"
    assert (
        in_catalog(
            replace(GUIDE, python=Version("3.11")), with_rows(*rows)
        ).transformers_run
        == rows[1]
    )
    assert in_catalog(GUIDE, with_rows(*rows[2:])).transformers_run is None
    both = with_rows(row_of("2.0.1", "3.10", "4.45"), row_of("2.0.1", "3.10", "4.44"))
    found = in_catalog(GUIDE, both).transformers_run
    assert (found and str(found.newest)) == "4.44"


def test_the_newest_transformers_that_was_run() -> None:
    facts = with_rows(row_of("2.0.1", "3.11", "4.40.2"))
    assert (
        says("transformers", in_catalog(GUIDE, facts), facts, transformers="4.40")
        is None
    )
    assert (
        says("transformers", in_catalog(GUIDE, facts), facts, transformers="4.40.2")
        is None
    )
    bound = "the newest transformers known to work on torch 2.0.1 with Python 3.11 is 4.40.2 (4.40.2)"
    assert (
        says("transformers", in_catalog(GUIDE, facts), facts, transformers="4.41")
        == bound
    )
    other = with_rows(row_of("2.5.1", "3.11", "4.40.2"))
    said = "transformers 4.41 is newer than any that was tested, 4.40.2"
    assert (
        says("transformers", in_catalog(GUIDE, other), other, transformers="4.41")
        == said
    )
    assert (
        says("transformers", in_catalog(GUIDE, other), other, transformers="4.40")
        is None
    )
    assert newest_transformers(with_rows()) == Version("0")
    assert oldest_transformers(replace(CATALOG, transformers_releases=())) == Version(
        "0"
    )


def test_a_transformers_that_failed_is_named() -> None:
    row = replace(
        CATALOG.transformers[0],
        torch=Version("2.0.1"),
        broken=(Version("4.30.1"),),
        source="a run",
    )
    facts = with_rows(row)
    said = "transformers 4.30.1 fails on torch 2.0.1 (a run)"
    assert (
        says("transformers", in_catalog(GUIDE, facts), facts, transformers="4.30.1")
        == said
    )
    assert (
        says("transformers", in_catalog(GUIDE, facts), facts, transformers="4.30.2")
        is None
    )


def test_a_release_of_transformers_does_not_stand_for_its_line() -> None:
    """4.30 and 4.30.0 are equal versions: the line stays, and the stack excludes the release that failed."""
    template = CATALOG.transformers[0]
    torch, newest = Version("2.0.1"), Version("4.40.0")
    row = replace(
        template,
        torch=torch,
        newest=newest,
        broken=(Version("4.30.0"),),
        source="a run",
    )
    facts = with_rows(row)
    found = in_catalog(GUIDE, facts)
    failed = "transformers 4.30.0 fails on torch 2.0.1 (a run)"
    assert says("transformers", found, facts, transformers="4.30") is None
    assert says("transformers", found, facts, transformers="4.30.0") == failed
    stack = make_stack(look_up(request(transformers="4.30"), facts), found)
    assert "transformers==4.30.*,<=4.40.0,!=4.30.0" in stack.requirements


def test_a_transformers_without_wheels_for_the_python() -> None:
    row = next(
        row
        for row in CATALOG.transformers_releases
        if str(row.transformers).startswith("4.30.")
    )
    newer = replace(GUIDE, python=Version("3.13"))
    pythons = ", ".join(map(str, row.pythons["linux/amd64"]))
    assert says("transformers", newer, transformers="4.30") == (
        f"transformers {row.transformers} needs tokenizers {row.tokenizers}, "
        f"which has wheels for Python {pythons} ({row.source})"
    )
    assert [
        found.transformers for found in matching_releases(Version("4.30.9"), CATALOG)
    ] == [row.transformers]
    majors = {
        found.transformers.major for found in matching_releases(Version("4"), CATALOG)
    }
    assert majors == {4}


# --- Python and base -----------------------------------------------------------------------------------------------


def test_missing_python_is_explained() -> None:
    pythons = ", ".join(map(str, GUIDE.build.family["linux/amd64"]))
    said = f"torch 2.0.1 and its family have wheels for Python {pythons} ({SOURCE})"
    assert says("python", GUIDE, python="3.12") == said
    registry = CATALOG.policy.registry
    listed = ", ".join(map(str, registry.pythons))
    assert says("python", GUIDE, python="3.11") == (
        f"official Python images exist for {listed} ({registry.source})"
    )
    bootstrapped = candidate(cuda="11.7", base="bootstrap")
    said = f"debian 11 has Python 3.9 ({system_source('debian 11')})"
    assert says("python", bootstrapped, python="3.10") == said


def test_base_must_match_the_request() -> None:
    bootstrapped = candidate(cuda="11.7", base="bootstrap")
    assert says("base", bootstrapped, base="bootstrap") is None
    assert says("base", bootstrapped) is None
    assert (
        says("base", GUIDE, base="mine", python="3.10")
        == "its base is python:3.10-slim-bookworm, not mine"
    )
    said = says("base", GUIDE, base="bootstrap")
    rows = [
        row for row in CATALOG.systems if row.os in CATALOG.policy.bootstrap.systems
    ]
    listed = ", ".join(
        f"{row.python.major}.{row.python.minor} ({row.os})" for row in rows
    )
    sources = "; ".join(dict.fromkeys(row.source for row in rows))
    assert (
        said
        == f"a bootstrapped base has the Python of its system, {listed}, and not 3.10 ({sources})"
    )
    assert says("base", OWN, base="mine", python="3.10") is None
    for base in ("auto", "bootstrap"):
        assert says("base", OWN, base=base) == "the request names no image to build on"


def with_glibc(found: Candidate, glibc: str) -> Candidate:
    return replace(found, base=replace(found.base, glibc=Version(glibc)))


def test_the_glibc_that_a_wheel_needs_is_enough() -> None:
    needs = replace(GUIDE, build=replace(GUIDE.build, glibc=Version("2.28")))
    assert says("", with_glibc(needs, "2.28")) is None
    assert (
        says("", with_glibc(needs, "2.27"))
        == f"torch 2.0.1 needs glibc 2.28; debian 12 has 2.27 ({SOURCE})"
    )


def test_custom_base_and_its_system() -> None:
    def own_says(system: str, glibc: str = "2.16") -> str | None:
        needs = replace(OWN, build=replace(OWN.build, glibc=Version(glibc)))
        return says("os", needs, base="mine", python="3.10", os=system)

    assert own_says("debian12") is None
    assert own_says("bookworm", "2.36") is None
    assert (
        own_says("debian12", "2.37")
        == f"torch 2.0.1 needs glibc 2.37; debian 12 has 2.36 ({SOURCE})"
    )
    assert own_says("ubuntu26.04", "2.99") is None  # its glibc is not known
    assert (
        own_says("ubi9")
        == f"ubi 9 is not supported: the generated Dockerfile needs apt ({system_source('ubi 9')})"
    )
    assert own_says("plan 9") == "operating system plan 9 is unknown"
    assert find_system(None, CATALOG) is None
    assert [has_apt(row) for row in CATALOG.systems if row.os.startswith("ubi ")] == [
        False,
        False,
    ]


# --- all of them ---------------------------------------------------------------------------------------------------


def test_every_objection_is_reported() -> None:
    wanted = request(cuda="12.1", torch="2.1", gpu="H100", driver="470")
    found = options.objections_to(look_up(wanted, CATALOG), GUIDE)
    assert [reason.text.split(" ")[0] for reason in found] == [
        "torch",
        "CUDA",
        "torch",
        "H100",
    ]
    assert options.objections_to(look_up(request(cuda="11.7"), CATALOG), GUIDE) == []


def test_an_index_of_candidates_agrees_with_the_rules() -> None:
    """For each option alone, the mask is what the rule says of each candidate."""
    made = CandidateIndex(replace(CATALOG, torch=CATALOG.torch[::7]))
    values = {
        "cuda": "11.7",
        "cudnn": "8",
        "torch": "2",
        "torchvision": "0.15",
        "python": "3.10",
        "gpu": "8.6",
    }
    values |= {
        "base": "bootstrap",
        "os": "debian 12",
        "flavour": "cpu",
        "platform": "arm64",
        "as_of": "2023-06-01",
    }
    values |= {"transformers": "4.40", "driver": "470"}
    assert {*values, ""} == set(RULES)
    for name, text in values.items():
        option = options.find_option(name)
        assert option is not None
        wanted = request(**{name: text})
        allowed = made.candidates_in(made.mask_for(option, option.value_in(wanted)))
        passing = [
            found
            for found in made.candidates
            if option.rule(look_up(wanted, made.catalog), found) is None
        ]
        assert allowed == passing, name
