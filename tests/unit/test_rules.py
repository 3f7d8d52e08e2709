"""Every rule alone: what it lets pass, and the one sentence it says against torch 2.0.1 for CUDA 11.7."""

from dataclasses import replace

import pytest
from packaging.version import Version

from envbuilder import catalog
from envbuilder.catalog.gpus import find_gpu
from envbuilder.catalog.rows import Catalog
from envbuilder.model import Request
from envbuilder.resolve import rules
from envbuilder.resolve.candidate_index import Choice, choice
from envbuilder.resolve.candidates import Candidate, covers
from envbuilder.resolve.command_line import parse_request

CATALOG = catalog.load()
RULES = {option: rule for option, rule, _ in rules.RULES}


def request(**options: str) -> Request:
    return parse_request(options)


def candidate(**options: str) -> Candidate:
    found = choice(CATALOG).best(request(**options))
    assert found is not None
    return found


GUIDE = candidate(cuda="11.7")
CPU = candidate(flavour="cpu", torch="2.0")
OWN = candidate(cuda="11.7", base="mine", python="3.10")
SOURCE = GUIDE.build.source


def system_source(name: str) -> str:
    return next(row.source for row in CATALOG.systems if row.os == name)


def says(option: str, against: Candidate, facts: Catalog = CATALOG, **options: str) -> str | None:
    return RULES[option](request(**options), against, facts)


@pytest.mark.parametrize("option", sorted(RULES))
def test_what_is_not_asked_for_is_no_objection(option: str) -> None:
    assert says(option, GUIDE) is None


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("cuda", "12.1", f"torch 2.0.1 is built for CUDA 11.7.99 ({SOURCE})"),
        ("cudnn", "9", f"torch 2.0.1 for CUDA 11.7.99 is built for cuDNN 8.5.0.96 ({SOURCE})"),
        ("torch", "2.1", f"CUDA 11.7.99 comes with torch 2.0.1 ({SOURCE})"),
        ("torchvision", "0.14", f"torch 2.0.1 comes with torchvision 0.15.2 ({SOURCE})"),
        ("driver", "450.80.01", f"CUDA 11.7.99 needs driver 450.80.02 or newer ({SOURCE})"),
        ("driver", "449", f"CUDA 11.7.99 needs driver 450.80.02 or newer ({SOURCE})"),
        ("flavour", "cpu", "torch 2.0.1 for CUDA 11.7.99 is not of flavour cpu"),
        ("platform", "arm64", f"torch 2.0.1 has CUDA wheels for linux/amd64 ({SOURCE})"),
        ("as_of", "2023-05-07", "torch 2.0.1 was released on 2023-05-08, after 2023-05-07"),
        ("transformers", "4.17", "transformers 4.17 is older than any that is known, 4.18.0"),
        ("os", "debian11", f"python:3.10-slim-bookworm is debian 12 ({system_source('debian 12')})"),
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
def test_what_a_rule_lets_pass(option: str, value: str) -> None:
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
    assert rules.named(CPU) == "torch 2.0.1 without CUDA"
    assert says("flavour", CPU) == "torch 2.0.1 without CUDA is not of flavour runtime"
    assert says("flavour", CPU, flavour="cpu") is None


def test_the_wheel_of_another_platform_is_another_wheel() -> None:
    said = f"its wheel for linux/arm64 is another one than that for linux/amd64 ({SOURCE})"
    assert says("platform", CPU, flavour="cpu", platform="arm64") == said
    both = replace(GUIDE, build=replace(GUIDE.build, platforms=("linux/amd64", "linux/arm64")))
    assert says("platform", both, platform="arm64") == said
    only = replace(GUIDE, platform="linux/arm64")
    assert says("platform", only) == f"its wheel for linux/amd64 is another one than that for linux/arm64 ({SOURCE})"


def test_what_a_gpu_misses() -> None:
    kernels = "torch 2.0.1 for CUDA 11.7.99 has kernels for sm_37 sm_50 sm_60 sm_70 sm_75 sm_80 sm_86"
    gpu = find_gpu("H100", CATALOG)
    assert gpu is not None
    assert says("gpu", GUIDE, gpu="9.0") == f"{kernels} ({SOURCE})"
    assert says("gpu", GUIDE, gpu="H100") == f"{kernels} ({SOURCE}); H100 has compute capability 9.0 ({gpu.source})"
    assert says("gpu", GUIDE, gpu="no such GPU") == "gpu no such GPU is unknown"
    bare = replace(GUIDE, build=replace(GUIDE.build, arch_list=()))
    said = f"torch 2.0.1 for CUDA 11.7.99 has kernels for no GPU that is known ({SOURCE})"
    assert says("gpu", bare, gpu="9.0") == said
    ptx = replace(GUIDE, build=replace(GUIDE.build, ptx=("compute_86",)))
    assert says("gpu", ptx, gpu="9.0") is None
    old = replace(GUIDE, build=replace(GUIDE.build, ptx=("compute_86",), arch_list=()))
    assert says("gpu", old, gpu="8.0") == f"torch 2.0.1 for CUDA 11.7.99 has kernels for compute_86 ({SOURCE})"


def test_what_stands_for_arm64_is_for_arm64() -> None:
    build = replace(GUIDE.build, arch_list_arm64=("sm_90",))
    assert replace(GUIDE, build=build).archs == GUIDE.build.arch_list
    assert replace(GUIDE, build=build, platform="linux/arm64").archs == ("sm_90",)
    assert replace(GUIDE, platform="linux/arm64").archs == GUIDE.build.arch_list


def test_a_jetson() -> None:
    orin, thor = find_gpu("Jetson AGX Orin", CATALOG), find_gpu("Jetson T5000", CATALOG)
    since = rules.server_wheels(CATALOG)
    assert orin is not None
    assert thor is not None
    assert since is not None
    named = f"Orin is a Jetson, {orin.architecture} ({orin.source})"
    own = f"{named}: no wheel here is built for it; NVIDIA has wheels and images of its own for it"
    assert rules.jetson_objects("Orin", orin, "linux/arm64", CATALOG) == f"{own} ({since.source})"
    without = replace(CATALOG, compatibility=())
    assert rules.jetson_objects("Orin", orin, "linux/arm64", without) == own
    assert rules.jetson_objects("Thor", thor, "linux/arm64", CATALOG) is None
    assert rules.jetson_objects("Thor", thor, "linux/amd64", CATALOG) == (
        f"Thor is a Jetson, {thor.architecture} ({thor.source}): its processor is arm64, "
        "so `--platform linux/arm64` is what runs on it"
    )
    server = find_gpu("H100", CATALOG)
    assert server is not None
    assert rules.jetson_objects("H100", server, "linux/amd64", CATALOG) is None


def test_a_driver_and_a_gpu_that_do_not_know_each_other() -> None:
    hopper, volta = find_gpu("H100", CATALOG), find_gpu("V100", CATALOG)
    assert hopper is not None
    assert volta is not None
    too_old = rules.strangers(request(gpu="H100", driver="470.57.02"), CATALOG)
    assert too_old is not None
    named = (
        f"H100 is {hopper.architecture}, compute capability 9.0 ({hopper.source}); CUDA 11.8, the first that knows it, "
    )
    assert too_old.startswith(f"{named}came with driver 520.61.05 (")
    assert too_old.endswith("): driver 470.57.02 is of an older branch")
    too_new = rules.strangers(request(gpu="V100", driver="590"), CATALOG)
    last = next(row for row in CATALOG.compatibility if row.kind == "last driver branch" and "Volta" in row.says)
    named = f"V100 is {volta.architecture}, compute capability 7.0 ({volta.source})"
    assert too_new == f"{named}; {last.says} ({last.source})"
    for fine in (
        {"gpu": "V100", "driver": "580"},
        {"gpu": "V100"},
        {"driver": "590"},
        {"gpu": "H100", "driver": "520"},
    ):
        assert rules.strangers(request(**fine), CATALOG) is None
    assert rules.driver_knows_gpu(request(gpu="V100", driver="590"), GUIDE, CATALOG) == too_new
    assert rules.driver_knows_gpu(request(gpu="V100", driver="590"), CPU, CATALOG) is None


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
    assert {str(version) for version in rules.cuda_meant(Version(said), CATALOG)} == meant


def test_a_major_of_cuda_means_all_of_its_lines() -> None:
    lines = {build.cuda for build in CATALOG.torch if build.cuda.major == 12}
    assert rules.cuda_meant(Version("12"), CATALOG) == lines
    assert rules.cuda_meant(Version("12.0"), CATALOG) == frozenset()


@pytest.mark.parametrize(
    ("wanted", "version", "answer"),
    [
        ("11.7", "11.7.99", True), ("11.7", "11.7", True), ("11", "11.7.99", True), ("11.7.1", "11.7.99", False),
        ("11.70", "11.7.99", False), ("11.7.99.1", "11.7.99", False), ("2.1", "2.1rc1", False),
        ("2.1rc1", "2.1rc1", True), ("2.0", "2.0.1", True), ("2.0.0", "2.0.1", False),
    ],
)  # fmt: skip
def test_a_version_covers_what_begins_with_it(wanted: str, version: str, answer: bool) -> None:
    assert covers(Version(wanted), Version(version)) is answer


# --- devel ---------------------------------------------------------------------------------------------------------


def test_no_compiler_says_why_and_what_may_do() -> None:
    devel = CATALOG.policy.devel
    assert devel is not None
    why = devel.without["11"]
    own = "a base of your own that has nvcc may do, by --base and --python"
    said = f"nothing here brings nvcc for CUDA 11.7: {why.says} ({why.source}); {own}"
    assert says("flavour", GUIDE, flavour="devel") == said
    without = replace(CATALOG, policy=replace(CATALOG.policy, devel=None))
    bare = f"nothing here brings nvcc for CUDA 11.7; {own}"
    assert says("flavour", GUIDE, without, flavour="devel") == bare
    assert rules.compiler_of(GUIDE, without) is None
    assert says("flavour", OWN, flavour="devel", base="mine", python="3.10") is None
    line = candidate(cuda="13.0")
    assert rules.compiler_of(line, CATALOG) == devel.compilers["13.0"]
    assert says("flavour", line, flavour="devel") is None


# --- transformers --------------------------------------------------------------------------------------------------


def row_of(torch: str, python: str, newest: str) -> object:
    template = CATALOG.transformers[0]
    return replace(
        template, torch=Version(torch), python=Version(python), newest=Version(newest), broken=(), source=newest
    )


def with_rows(*rows: object) -> Catalog:
    return replace(CATALOG, transformers=rows)  # type: ignore[arg-type]


def test_the_bound_of_transformers_is_that_of_the_nearest_python() -> None:
    rows = (row_of("2.0.0", "3.8", "4.40"), row_of("2.0.1", "3.12", "4.41"), row_of("2.1.0", "3.10", "4.42"))
    found = rules.ceiling_of(GUIDE, with_rows(*rows))
    assert (found and str(found.newest)) == "4.40"
    assert rules.ceiling_of(replace(GUIDE, python=Version("3.11")), with_rows(*rows)) == rows[1]
    assert rules.ceiling_of(GUIDE, with_rows(*rows[2:])) is None
    both = with_rows(row_of("2.0.1", "3.10", "4.45"), row_of("2.0.1", "3.10", "4.44"))
    found = rules.ceiling_of(GUIDE, both)
    assert (found and str(found.newest)) == "4.44"


def test_the_newest_transformers_that_was_run() -> None:
    facts = with_rows(row_of("2.0.1", "3.11", "4.40.2"))
    assert says("transformers", GUIDE, facts, transformers="4.40") is None
    assert says("transformers", GUIDE, facts, transformers="4.40.2") is None
    bound = "the newest transformers that was run on torch 2.0.1 with Python 3.11 and worked is 4.40.2 (4.40.2)"
    assert says("transformers", GUIDE, facts, transformers="4.41") == bound
    other = with_rows(row_of("2.5.1", "3.11", "4.40.2"))
    said = "transformers 4.41 is newer than any that was run, 4.40.2"
    assert says("transformers", GUIDE, other, transformers="4.41") == said
    assert says("transformers", GUIDE, other, transformers="4.40") is None
    assert rules.newest_transformers(with_rows()) == Version("0")
    assert rules.oldest_transformers(replace(CATALOG, transformers_releases=())) == Version("0")


def test_a_transformers_that_failed_is_named() -> None:
    row = replace(CATALOG.transformers[0], torch=Version("2.0.1"), broken=(Version("4.30.1"),), source="a run")
    facts = with_rows(row)
    said = "transformers 4.30.1 was run on torch 2.0.1 and failed (a run)"
    assert says("transformers", GUIDE, facts, transformers="4.30.1") == said
    assert says("transformers", GUIDE, facts, transformers="4.30.2") is None


def test_a_transformers_without_wheels_for_the_python() -> None:
    row = next(row for row in CATALOG.transformers_releases if str(row.transformers).startswith("4.30."))
    newer = replace(GUIDE, python=Version("3.13"))
    pythons = ", ".join(map(str, row.pythons["linux/amd64"]))
    assert says("transformers", newer, transformers="4.30") == (
        f"transformers {row.transformers} and the tokenizers that it asks for, {row.tokenizers}, "
        f"have wheels for Python {pythons} ({row.source})"
    )
    assert [found.transformers for found in rules.releases_meant(Version("4.30.9"), CATALOG)] == [row.transformers]
    majors = {found.transformers.major for found in rules.releases_meant(Version("4"), CATALOG)}
    assert majors == {4}


# --- Python and base -----------------------------------------------------------------------------------------------


def test_why_a_python_is_not_there() -> None:
    pythons = ", ".join(map(str, GUIDE.build.family["linux/amd64"]))
    said = f"torch 2.0.1 and its family have wheels for Python {pythons} ({SOURCE})"
    assert says("python", GUIDE, python="3.12") == said
    registry = CATALOG.policy.registry
    listed = ", ".join(map(str, registry.pythons))
    assert says("python", GUIDE, python="3.11") == (
        f"the official Python images are there for {listed} ({registry.source})"
    )
    bootstrapped = candidate(cuda="11.7", base="bootstrap")
    said = f"debian 11 has Python 3.9 ({system_source('debian 11')})"
    assert says("python", bootstrapped, python="3.10") == said


def test_which_base_was_asked_for() -> None:
    bootstrapped = candidate(cuda="11.7", base="bootstrap")
    assert says("base", bootstrapped, base="bootstrap") is None
    assert says("base", bootstrapped) is None
    assert says("base", GUIDE, base="mine", python="3.10") == "its base is python:3.10-slim-bookworm, not mine"
    said = says("base", GUIDE, base="bootstrap")
    rows = [row for row in CATALOG.systems if row.os in CATALOG.policy.bootstrap.systems]
    listed = ", ".join(f"{row.python.major}.{row.python.minor} ({row.os}; {row.source})" for row in rows)
    assert said == f"Python 3.10 is not among those a bootstrapped base can have: {listed}"
    assert says("base", OWN, base="mine", python="3.10") is None
    for base in ("auto", "bootstrap"):
        assert says("base", OWN, base=base) == "no image of your own is named"


def with_glibc(found: Candidate, glibc: str) -> Candidate:
    return replace(found, base=replace(found.base, glibc=Version(glibc)))


def test_the_glibc_that_a_wheel_needs_is_enough() -> None:
    needs = replace(GUIDE, build=replace(GUIDE.build, glibc=Version("2.28")))
    assert says("", with_glibc(needs, "2.28")) is None
    assert says("", with_glibc(needs, "2.27")) == f"torch 2.0.1 needs glibc 2.28 ({SOURCE}); debian 12 has 2.27"


def test_what_is_said_of_the_system_of_an_own_base() -> None:
    def own_says(system: str, glibc: str = "2.16") -> str | None:
        needs = replace(OWN, build=replace(OWN.build, glibc=Version(glibc)))
        return says("os", needs, base="mine", python="3.10", os=system)

    assert own_says("debian12") is None
    assert own_says("bookworm", "2.36") is None
    assert own_says("debian12", "2.37") == f"torch 2.0.1 needs glibc 2.37 ({SOURCE}); debian 12 has 2.36"
    assert own_says("ubuntu26.04", "2.99") is None  # its glibc is not known
    assert own_says("ubi9") == "ubi 9 has no apt, which the Dockerfile installs with"
    assert own_says("plan 9") == "os plan 9 is unknown"
    assert rules.find_system(None, CATALOG) is None
    assert [rules.has_apt(row) for row in CATALOG.systems if row.os.startswith("ubi ")] == [False, False]


# --- all of them ---------------------------------------------------------------------------------------------------


def test_every_objection_is_told() -> None:
    wanted = request(cuda="12.1", torch="2.1", gpu="H100", driver="470")
    found = rules.objections_to(wanted, GUIDE, CATALOG)
    assert [reason.split(" ")[0] for reason in found] == ["torch", "CUDA", "torch", "H100"]
    assert rules.objections_to(request(cuda="11.7"), GUIDE, CATALOG) == []


def test_an_index_of_candidates_agrees_with_the_rules() -> None:
    """For each option alone, the mask is what the rule says of each candidate."""
    made = Choice(replace(CATALOG, torch=CATALOG.torch[::7]))
    values = {"cuda": "11.7", "cudnn": "8", "torch": "2", "torchvision": "0.15", "python": "3.10", "gpu": "8.6"}
    values |= {"base": "bootstrap", "os": "debian 12", "flavour": "cpu", "platform": "arm64", "as_of": "2023-06-01"}
    values |= {"transformers": "4.40", "driver": "470"}
    assert {*values, ""} == set(RULES)
    for option, text in values.items():
        wanted = request(**{option: text})
        mask = made.left(option, getattr(wanted, option))
        bits = 0
        while mask:  # the candidates stand there once for each era of drivers
            bits |= mask & (1 << len(made.candidates)) - 1
            mask >>= len(made.candidates)
        for number, found in enumerate(made.candidates):
            passes = RULES[option](wanted, found, made.catalog) is None
            assert bool(bits >> number & 1) is passes, (option, number)
