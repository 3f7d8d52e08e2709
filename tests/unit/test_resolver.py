"""Every request becomes a complete stack or a minimal refusal whose suggestions work."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from packaging.version import Version

from envbuilder import catalog
from envbuilder.catalog import gpu_names
from envbuilder.catalog.gpus import runs_on
from envbuilder.catalog.rows import Catalog
from envbuilder.errors import NoStackError, UsageError
from envbuilder.model import PYPI, BaseSource, Flavour, Request
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import parse_option, parse_request
from envbuilder.versions import matches_prefix

CATALOG = catalog.load()


def request(**options: str) -> Request:
    return parse_request(options)


def refused(wanted: Request) -> NoStackError:
    with pytest.raises(NoStackError) as caught:
        resolve(wanted, CATALOG)
    return caught.value


def test_cuda_11_7_is_the_stack_of_the_guide(facts: Catalog) -> None:
    stack = resolve(request(cuda="11.7"), facts)
    assert (str(stack.torch), str(stack.torchvision), str(stack.torchaudio)) == (
        "2.0.1",
        "0.15.2",
        "2.0.2",
    )
    assert (str(stack.cuda), str(stack.cudnn), str(stack.nccl)) == (
        "11.7.99",
        "8.5.0.96",
        "2.14.3",
    )
    assert stack.arch_list == (
        "sm_37",
        "sm_50",
        "sm_60",
        "sm_70",
        "sm_75",
        "sm_80",
        "sm_86",
    )
    assert stack.driver_floor == "450.80.02"
    assert {"numpy<2", "transformers<=4.49.0"} <= set(stack.requirements)
    assert str(stack.python) == "3.10"
    assert stack.base.reference == "python:3.10-slim-bookworm"
    assert all(feature.available for feature in stack.features)
    assert stack.evidence == "verified"
    assert stack.as_of.isoformat() == "2025-03-20"


def test_builds_on_pypi_come_before_newer_ones_elsewhere(facts: Catalog) -> None:
    stack = resolve(request(cuda="12.6"), facts)
    assert (str(stack.torch), stack.index) == ("2.7.1", "pypi")
    alone = resolve(request(cuda="11.8"), facts)
    assert (str(alone.torch), alone.index, alone.evidence) == (
        "2.7.1",
        "pytorch-cu118",
        "inferred",
    )


def test_bootstrap_uses_the_debian_with_a_fully_capable_python(facts: Catalog) -> None:
    stack = resolve(request(cuda="11.7", base="bootstrap"), facts)
    assert (str(stack.python), stack.base.os, stack.base.source) == (
        "3.9",
        "debian 11",
        BaseSource.BOOTSTRAP,
    )
    assert any("end of life" in note for note in stack.notes)


def test_python_3_11_is_allowed_with_a_note(facts: Catalog) -> None:
    stack = resolve(request(cuda="11.7", python="3.11"), facts)
    feature = {feature.name: feature for feature in stack.features}["torch.compile"]
    assert not feature.available
    assert "3.11" in feature.reason
    assert any("torch.compile is not available" in note for note in stack.notes)


@pytest.mark.parametrize(
    ("options", "conflict"),
    [
        ({"cuda": "99.9"}, {"cuda"}),
        ({"cuda": "11.70"}, {"cuda"}),
        ({"python": "3.42"}, {"python"}),
        ({"cuda": "11.7", "gpu": "H100"}, {"cuda", "gpu"}),
        ({"cuda": "11.7", "gpu": "9.0", "python": "3.10"}, {"cuda", "gpu"}),
        ({"cuda": "11.7", "torch": "2.5"}, {"cuda", "torch"}),
        ({"python": "3.10", "base": "bootstrap"}, {"python", "base"}),
        ({"cuda": "12.1", "driver": "470.57"}, {"cuda", "driver"}),
        ({"cuda": "11.7", "platform": "linux/arm64"}, {"cuda", "platform"}),
        ({"cuda": "11.7", "cudnn": "9"}, {"cuda", "cudnn"}),
    ],
)
def test_refusal_names_only_conflicting_options(
    options: dict[str, str], conflict: set[str]
) -> None:
    error = refused(request(**options))
    assert {name for name, _ in error.conflict} == conflict
    assert error.reasons
    assert error.suggestions


def test_the_first_reason_is_the_closest_miss_without_its_source() -> None:
    """Not that the newest torch is built for another CUDA."""
    error = refused(request(cuda="11.7", gpu="H100"))
    assert error.message == "no stack has CUDA 11.7 and GPU H100"
    assert error.problems == (
        "torch 2.0.1 for CUDA 11.7.99 has kernels up to sm_86; H100 needs sm_90",
        "GPU H100 works with CUDA 12.1 or newer, or CUDA 11.8 from the index pytorch-cu118",
    )
    assert [reason.split(" (PyPI: ")[0] for reason in error.reasons] == list(
        error.problems
    )


@pytest.mark.parametrize(
    ("options", "problems"),
    [
        (
            {"cuda": "12.1", "driver": "470.57"},
            (
                "CUDA 12.1.105 needs driver 525.60.13 or newer",
                "driver 470.57 works with CUDA 11.7, or CUDA 11.6 from the index pytorch-cu116, "
                "or CUDA 11.8 from the index pytorch-cu118",
            ),
        ),
        (
            {"cuda": "11.7", "torch": "2.5"},
            (
                "torch 2.5 works with CUDA 12.4, or CUDA 11.8 from the index pytorch-cu118, "
                "or CUDA 12.1 from the index pytorch-cu121",
                "CUDA 11.7 works with torch 2.0.1 or older",
            ),
        ),
        (
            {"python": "3.10", "base": "bootstrap"},
            (
                "a bootstrapped base has the Python of its system, 3.9 (debian 11), 3.11 (debian 12), "
                "3.13 (debian 13), and not 3.10",
                "--base bootstrap works with Python 3.9, 3.11, 3.13",
            ),
        ),
        (
            {"torch": "2.0", "transformers": "4.50"},
            (
                "the newest transformers known to work on torch 2.0.1 with Python 3.11 is 4.49.0",
                "transformers 4.50 works with torch 2.1.0 or newer",
            ),
        ),
    ],
)
def test_each_conflicting_option_says_what_works_instead(
    options: dict[str, str], problems: tuple[str, ...]
) -> None:
    assert refused(request(**options)).problems == problems


def test_hint_for_an_old_driver_names_the_oldest_working_one() -> None:
    hint = "try `envbuilder resolve --driver 450.80.02` after upgrading the driver"
    assert refused(request(driver="390")).hint == hint


def test_suggested_names_are_accepted_by_the_command_line(facts: Catalog) -> None:
    systems = tuple(
        replace(row, release="bookwoorm-2") if row.release == "bookworm" else row
        for row in facts.systems
    )
    with pytest.raises(NoStackError) as caught:
        resolve(request(os="bookwoorm"), replace(facts, systems=systems))
    assert caught.value.suggestions == ("envbuilder resolve --os any",)
    assert refused(request(os="bookwoorm")).suggestions == (
        "envbuilder resolve --os bookworm",
    )


def test_catalog_without_candidates_is_not_a_bug(facts: Catalog) -> None:
    with pytest.raises(NoStackError) as caught:
        resolve(request(), replace(facts, torch=()))
    assert caught.value.message == "no stack has anything: the catalog has no candidate"
    arm64 = tuple(
        replace(build, platforms=("linux/arm64",))
        for build in facts.torch
        if "linux/arm64" in build.platforms
    )
    with pytest.raises(NoStackError) as caught:
        resolve(request(), replace(facts, torch=arm64))
    assert caught.value.conflict == (("platform", "linux/amd64"),)
    assert caught.value.message == "torch 2.15.0 has CUDA wheels only for linux/arm64"
    assert caught.value.suggestions == ("envbuilder resolve --platform linux/arm64",)


def test_an_ada_gpu_runs_ampere_code(facts: Catalog) -> None:
    assert resolve(request(cuda="11.7", gpu="RTX 4090"), facts).cuda_line == "11.7"


def test_unknown_and_impossible_are_distinguished() -> None:
    assert "is not in the catalog" in refused(request(cuda="99.9")).reasons[0]
    assert "not in the catalog" not in " ".join(
        refused(request(cuda="11.7", gpu="H100")).reasons
    )


def test_a_near_miss_is_suggested() -> None:
    assert refused(request(cuda="11.70")).suggestions == (
        "envbuilder resolve --cuda 11.7",
    )


def test_a_version_covers_by_its_parts() -> None:
    assert matches_prefix(Version("11.7"), Version("11.7.99"))
    assert not matches_prefix(Version("11.70"), Version("11.7.99"))
    assert not matches_prefix(Version("2.1"), Version("2.10.0"))


@pytest.mark.parametrize(
    "said", ["11.7", "11.7.1", "11.7.0", "11.7.99", "cu117", "cuda11.7", "11"]
)
def test_spellings_of_cuda_11_7(said: str, facts: Catalog) -> None:
    assert str(resolve(request(cuda=said), facts).cuda) == "11.7.99"


def test_a_toolkit_release_means_the_builds_made_of_it(facts: Catalog) -> None:
    assert str(resolve(request(cuda="13.0.2"), facts).cuda) == "13.0.2"
    exact = resolve(request(cuda="11.7.1"), facts)
    assert any(
        "11.7.99 is the number of CUDA's runtime in toolkit 11.7.1" in note
        for note in exact.notes
    )
    other = resolve(request(cuda="11.7.0"), facts)
    assert any(
        "no torch is built with CUDA 11.7.0; it is with 11.7.1" in note
        for note in other.notes
    )


def test_equal_versions_that_ask_for_different_things_are_kept_apart(
    facts: Catalog,
) -> None:
    assert str(resolve(request(torch="2.0"), facts).torch) == "2.0.1"
    assert str(resolve(request(torch="2.0.0"), facts).torch) == "2.0.0"
    assert resolve(request(cuda="12"), facts).cuda_line == "12.8"
    assert {name for name, _ in refused(request(cuda="12.0")).conflict} == {"cuda"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cuda": "11.7.2"}, "known: 11.7.0, 11.7.1, 11.7.99"),
        ({"python": "3.42"}, "known: 3.7, 3.8"),
        ({"gpu": "H290"}, "similar: H200"),
        ({"gpu": "9.9"}, "known: 3.0, 3.5"),
        ({"os": "plan 9"}, "known: debian 11"),
        ({"transformers": "9.9"}, "known: 4.18.0 to 5.23.0"),
        ({"torch": "1.12"}, "known: 1.13.0"),
    ],
)
def test_unknown_value_lists_known_ones_and_a_remedy(
    options: dict[str, str], said: str
) -> None:
    error = refused(request(**options))
    assert error.message.endswith(f" is not in the catalog ({CATALOG.date})")
    assert error.reasons[0] == f"{error.message}; {error.problems[0]}"
    assert error.problems[0].startswith(said)
    # Somebody who installed a wheel has no tools/ and no docs/.
    assert "tools/" not in error.hint + error.reasons[0]
    advice = (
        "or give its compute capability"
        if options.get("gpu") == "H290"
        else "or upgrade envbuilder"
    )
    assert advice in error.hint


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"cuda": "12.5"},
            "CUDA 12.5 exists, but no torch in the catalog is built for it",
        ),
        ({"python": "3.15"}, "no base image has Python 3.15"),
        (
            {"gpu": "3.0"},
            "no torch in the catalog has kernels for compute capability 3.0",
        ),
        (
            {"driver": "390"},
            "driver 390 is too old: the oldest supported driver is 450.80.02 (CUDA 11.7)",
        ),
    ],
)
def test_existing_but_impossible_values_are_not_called_unknown(
    options: dict[str, str], said: str
) -> None:
    error = refused(request(**options))
    assert error.message.startswith(said)
    assert error.problems == ()
    assert "unknown" not in error.message
    assert "not in the catalog" not in error.message


def test_all_unknown_values_are_reported_together() -> None:
    error = refused(request(cuda="99.9", python="3.42"))
    assert [reason.split(" is ")[0] for reason in error.reasons] == [
        "CUDA 99.9",
        "Python 3.42",
    ]
    assert error.suggestions == ("envbuilder resolve --cuda 13.2 --python any",)


def test_a_patch_release_of_python_is_the_bases() -> None:
    error = refused(request(python="3.10.4"))
    assert (
        error.message
        == "--python takes X.Y, not 3.10.4: the base image determines the patch release"
    )
    assert error.reasons == (error.message,)
    assert error.suggestions == ("envbuilder resolve --python 3.10",)


def test_an_ambiguous_gpu_is_not_guessed(facts: Catalog) -> None:
    twice = (
        replace(facts.gpus[5], names=("X1",)),
        replace(facts.gpus[9], names=("NVIDIA X1",)),
    )
    with pytest.raises(NoStackError) as caught:
        resolve(request(gpu="X1"), replace(facts, gpus=(*facts.gpus, *twice)))
    assert caught.value.reasons == (
        'GPU "X1" is ambiguous: Hopper (9.0) or Ampere (8.0)',
    )


@pytest.mark.parametrize(
    ("said", "capability"),
    [
        ("NVIDIA A100-SXM4-80GB", "8.0"), ("NVIDIA H100 80GB HBM3", "9.0"), ("Tesla V100-PCIE-16GB", "7.0"),
        ("geforce rtx 3090", "8.6"), ("A40", "8.6"), ("sm_86", "8.6"), ("8.9", "8.9"),
    ],
)  # fmt: skip
def test_a_gpu_as_its_driver_calls_it(
    said: str, capability: str, facts: Catalog
) -> None:
    found = gpu_names.find_gpu(str(parse_option("gpu", said)), facts)
    assert found is not None
    assert str(found.capability) == capability


@pytest.mark.parametrize(
    ("arch", "runs", "not_on"),
    [
        ("sm_86", ["8.6", "8.9"], ["8.0", "9.0", "7.5"]),
        ("sm_120", ["12.0", "12.1"], ["10.0", "13.0"]),
        ("sm_90a", ["9.0"], ["9.1", "10.0"]),
        ("sm_100a", ["10.0"], ["10.3", "12.0"]),
        ("sm_100f", ["10.0", "10.3"], ["9.0", "11.0", "12.0"]),
        ("sm_103f", ["10.3"], ["10.0", "11.0"]),
        ("compute_90a", ["9.0"], ["10.0"]),
        ("compute_100f", ["10.0", "10.3"], ["11.0", "12.0"]),
        ("compute_120", ["12.0", "12.1", "13.0"], ["10.0", "11.0"]),
        ("gfx90a", [], ["9.0"]),
    ],
)
def test_binary_compatibility_of_gpu_kernels(
    arch: str, runs: list[str], not_on: list[str]
) -> None:
    assert [runs_on(arch, Version(text)) for text in [*runs, *not_on]] == [True] * len(
        runs
    ) + [False] * len(not_on)


def test_a_driver_branch_is_some_driver_of_it(facts: Catalog) -> None:
    stack = resolve(request(driver="580"), facts)
    assert stack.driver_floor == "580.65.06"
    assert "driver 580 has to be 580.65.06 or newer" in stack.notes
    assert resolve(request(driver="580.65.05"), facts).driver_floor == "525.60.13"


def test_refused_driver_names_one_that_works() -> None:
    error = refused(request(cuda="12.1", driver="470.57.02"))
    assert ("driver", "470.57.02") in error.conflict
    assert "envbuilder resolve --cuda 12.1 --driver 525.60.13" in error.suggestions


def test_the_cpu_flavour_has_no_cuda(facts: Catalog) -> None:
    stack = resolve(request(flavour="cpu", torch="2.0"), facts)
    assert (stack.flavour, stack.cuda, stack.cudnn, stack.arch_list) == (
        Flavour.CPU,
        None,
        None,
        (),
    )
    assert stack.name == "cpu-torch2.0.1-py3.10-debian12"
    assert stack.requirements[:2] == ("torch==2.0.1+cpu", "torchvision==0.15.2+cpu")
    assert stack.evidence == "inferred"
    for other in ({"cuda": "11.7"}, {"gpu": "A100"}, {"cudnn": "8"}):
        assert {
            name for name, _ in refused(request(flavour="cpu", **other)).conflict
        } == {"flavour", *other}


def test_cpu_builds_on_pypi_are_arm64_until_2_10(facts: Catalog) -> None:
    found = {}
    for torch in sorted({build.torch for build in facts.torch}):
        for platform in ("linux/amd64", "linux/arm64"):
            stack = resolve(
                request(flavour="cpu", torch=str(torch), platform=platform), facts
            )
            found[torch, platform] = stack.index
            local = "" if stack.index == "pypi" else "+cpu"
            assert stack.requirements[0] == f"torch=={torch}{local}"
            assert any("the torch family is from" in note for note in stack.notes) == (
                bool(local)
            )
    assert {torch for torch, platform in found if found[torch, platform] == "pypi"} == {
        torch
        for torch in {build.torch for build in facts.torch}
        if torch < Version("2.11")
    }
    assert {
        platform for torch, platform in found if found[torch, platform] == "pypi"
    } == {"linux/arm64"}
    best = resolve(request(flavour="cpu", platform="linux/arm64"), facts)
    assert (best.index, str(best.torch)) == (
        "pypi",
        "2.10.0",
    )  # what PyPI has comes first


def test_an_operating_system_is_had_by_name_and_code_name(facts: Catalog) -> None:
    for said in ("debian13", "Debian 13", "trixie"):
        stack = resolve(request(os=said), facts)
        assert (stack.base.os, str(stack.python)) == ("debian 13", "3.13")
    own = resolve(
        request(os="debian11", base="registry.example/base:1", python="3.9"), facts
    )
    assert (own.base.reference, own.base.os, str(own.base.glibc)) == (
        "registry.example/base:1",
        "debian 11",
        "2.31",
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"os": "ubuntu22.04"}, "no base image for ubuntu 22.04"),
        ({"os": "ubi9"}, "ubi 9 is not supported: the generated Dockerfile needs apt"),
        ({"os": "ubi9", "base": "mine", "python": "3.12"}, "ubi 9 is not supported"),
        (
            {"os": "ubuntu99.04"},
            'operating system "ubuntu 99.04" is not in the catalog',
        ),
    ],
)
def test_unknown_system_and_missing_base_are_distinguished(
    facts: Catalog, options: dict[str, str], reason: str
) -> None:
    with pytest.raises(NoStackError) as caught:
        resolve(request(**options), facts)
    assert any(reason in line for line in caught.value.reasons)


def test_old_glibc_is_reported_as_the_reason(facts: Catalog) -> None:
    old = replace(
        facts.systems[0],
        os="debian 9",
        release="stretch",
        glibc=Version("2.24"),
        python=Version("3.9"),
    )
    bootstrap = replace(
        facts.policy.bootstrap, systems=(*facts.policy.bootstrap.systems, old.os)
    )
    policy = replace(facts.policy, bootstrap=bootstrap)
    catalog_with_old = replace(facts, systems=(*facts.systems, old), policy=policy)
    assert str(resolve(request(os="debian9"), catalog_with_old).torch) == "2.6.0"
    with pytest.raises(NoStackError) as caught:
        resolve(request(os="debian9", torch="2.8"), catalog_with_old)
    assert any(
        "torch 2.8.0 needs glibc 2.28" in reason for reason in caught.value.reasons
    )


def test_an_old_transformers_takes_a_python_that_has_its_wheels(facts: Catalog) -> None:
    assert str(resolve(request(transformers="4.30"), facts).python) == "3.11"
    error = refused(request(transformers="4.30", python="3.13"))
    assert {name for name, _ in error.conflict} == {"python", "transformers"}
    assert any(
        "transformers 4.30.2 needs tokenizers" in reason for reason in error.reasons
    )
    assert str(resolve(request(transformers="4", torch="2.0"), facts).python) == "3.10"


def test_transformers_is_bounded_by_the_newest_tested_version(facts: Catalog) -> None:
    assert (
        "transformers==4.30.*,<=4.49.0"
        in resolve(request(torch="2.0", transformers="4.30"), facts).requirements
    )
    assert (
        "transformers==4.30.2"
        in resolve(request(torch="2.0", transformers="4.30.2"), facts).requirements
    )
    error = refused(request(torch="2.0", transformers="4.50"))
    assert {name for name, _ in error.conflict} == {"torch", "transformers"}
    assert any("is 4.49.0 (emp_results" in reason for reason in error.reasons)


def test_wheels_that_can_be_locked_are_preferred(facts: Catalog) -> None:
    newest = max(
        (build for build in facts.torch if build.index == PYPI),
        key=lambda build: build.torch,
    )
    elsewhere = replace(
        newest, torch=Version("2.99.0"), released=date(2026, 11, 1), index="elsewhere"
    )
    more = replace(facts, torch=(*facts.torch, elsewhere))
    assert resolve(Request(), more).torch == newest.torch
    stack = resolve(request(torch="2.99"), more)
    assert stack.requirements[0] == "torch==2.99.0+cu132"
    assert any(
        "(elsewhere), whose address is not known: `envbuilder lock` needs" in note
        for note in stack.notes
    )


def test_the_weakest_fact_is_the_stacks(facts: Catalog) -> None:
    assert resolve(request(cuda="11.7"), facts).evidence == "verified"
    by_name, by_number = (
        request(cuda="11.7", gpu="A100"),
        request(cuda="11.7", gpu="8.0"),
    )
    assert (
        resolve(by_name, facts).evidence == gpu_names.find_gpus("A100", facts)[0].status
    )
    assert resolve(by_number, facts).evidence == "verified"
    assert resolve(request(cuda="11.7.1"), facts).evidence == "documented"


@pytest.mark.parametrize(
    ("torch", "python"),
    [("1.13", "3.11"), ("1.13.1", "3.11"), ("2.5", "3.13"), ("2.5.0", "3.13")],
)
def test_a_python_that_only_torch_has_wheels_for_is_refused(
    torch: str, python: str, facts: Catalog
) -> None:
    rows = [row for row in facts.torch if matches_prefix(Version(torch), row.torch)]
    assert all(Version(python) in row.pythons for row in rows if row.index == "pypi")
    error = refused(request(torch=torch, python=python))
    assert {name for name, _ in error.conflict} == {"torch", "python"}
    assert error.reasons[0].startswith(f"torch {torch} works with Python 3.")
    assert python not in error.reasons[0].split(" (")[0]
    for command in error.suggestions:
        assert not command.endswith(f"--torch {torch} --python {python}")


def test_the_family_has_the_pythons_that_all_three_have(facts: Catalog) -> None:
    """As their wheels on PyPI say, which are another table."""
    wheels = {(row.package, row.version): row for row in catalog.read(catalog.WHEELS)}
    for build in [row for row in facts.torch if row.index == "pypi"]:
        names = [
            ("torch", build.torch),
            ("torchvision", build.torchvision),
            ("torchaudio", build.torchaudio),
        ]
        parts = [wheels[key] for key in names if key in wheels]  # type: ignore[index]
        for platform, pythons in build.family.items():
            common = set.intersection(
                *(set(row.pythons.get(platform, ())) for row in parts)
            )
            assert set(pythons) <= common, (build.torch, platform)


def test_a_release_that_failed_is_not_taken_for_its_line(facts: Catalog) -> None:
    stack = resolve(request(torch="2.1.2", transformers="4.52"), facts)
    assert "transformers==4.52.*,<=4.55.4,!=4.52.4" in stack.requirements
    assert "transformers<=4.55.4" in resolve(request(torch="2.1.2"), facts).requirements


def test_setuptools_bound_applies_to_additional_packages(facts: Catalog) -> None:
    alone = resolve(request(torch="2.0.1"), facts)
    assert not any(line.startswith("setuptools") for line in alone.requirements)
    for package in ("einops", "peft"):  # peft is a companion
        both = resolve(parse_request({"torch": "2.0.1"}, [package]), facts)
        assert both.requirements == (*alone.requirements, "setuptools<82,!=70.*")


# --- the day that packages are resolved as of ----------------------------------------------------------------------


def as_of(facts: Catalog, **options: str) -> date:
    return resolve(parse_request(options), facts).as_of


def test_the_newest_stack_takes_a_day_that_has_settled(facts: Catalog) -> None:
    assert as_of(facts, cuda="13.2") == facts.date - timedelta(days=14)
    assert facts.policy.as_of.settle_days == 14


def test_day_before_a_failing_transformers_must_settle_too(facts: Catalog) -> None:
    def with_next(day: date) -> Catalog:
        rows = [
            replace(row, next_released=day) if row.torch == Version("2.6.0") else row
            for row in facts.transformers
        ]
        return replace(facts, transformers=tuple(rows))

    settled = facts.date - timedelta(days=14)
    assert as_of(with_next(facts.date), cuda="12.4") == settled
    assert as_of(with_next(settled), cuda="12.4") == settled - timedelta(days=1)


def test_pinned_versions_existed_on_the_day(facts: Catalog) -> None:
    yesterday = facts.date - timedelta(days=1)
    builds = [
        replace(build, released=yesterday)
        if build.torch == Version("2.15.0")
        else build
        for build in facts.torch
    ]
    assert as_of(replace(facts, torch=tuple(builds)), cuda="13.2") == yesterday
    newest = max(facts.transformers_releases, key=lambda row: row.released)
    assert newest.released > facts.date - timedelta(days=14)
    allowed = [replace(row, newest=newest.transformers) for row in facts.transformers]
    young = replace(facts, transformers=tuple(allowed))
    assert (
        as_of(young, cuda="13.2", transformers=str(newest.transformers))
        == newest.released
    )
    assert as_of(
        young, cuda="13.2", transformers=str(newest.transformers.major)
    ) == facts.date - timedelta(days=14)


def test_requested_day_also_limits_torch(facts: Catalog) -> None:
    stack = resolve(parse_request({"as_of": "2025-01-01"}), facts)
    assert stack.as_of == date(2025, 1, 1)
    assert stack.torch == Version("2.5.1")
    released = next(
        build.released for build in facts.torch if build.torch == stack.torch
    )
    assert as_of(facts, as_of=released.isoformat(), torch="2.5.1") == released


def test_torch_released_after_the_day_is_refused(facts: Catalog) -> None:
    with pytest.raises(NoStackError) as caught:
        resolve(parse_request({"torch": "2.0.1", "as_of": "2023-01-01"}), facts)
    assert caught.value.conflict == (("torch", "2.0.1"), ("as-of", "2023-01-01"))
    assert (
        caught.value.problems[0]
        == "torch 2.0.1 was released on 2023-05-08, after 2023-01-01"
    )
    assert caught.value.suggestions == (
        "envbuilder resolve --torch 1.13.1 --as-of 2023-01-01",
        "envbuilder resolve --torch 2.0.1 --as-of any",
    )


def test_a_day_before_every_torch_is_refused_with_the_first(facts: Catalog) -> None:
    with pytest.raises(NoStackError) as caught:
        resolve(parse_request({"as_of": "2020-01-01"}), facts)
    assert caught.value.conflict == (("as-of", "2020-01-01"),)
    assert (
        caught.value.message
        == "the oldest torch in the catalog, 1.13.0, was released on 2022-10-28"
    )


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-30",
        "2026-1-1",
        "20261109",
        "2026-11-09T00:00:00",
        "yesterday",
        "٢٠٢٦-11-09",
    ],
)
def test_a_day_has_one_spelling(text: str) -> None:
    with pytest.raises(UsageError, match="a day is YYYY-MM-DD"):
        parse_request({"as_of": text})
