"""Companions: the release that fits, why none does, and what works instead; in a catalog of made-up packages."""

import random
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from marks import few
from oracle import Oracle
from oracle.companions import CompanionOracle, padded

from envbuilder import catalog, serialize
from envbuilder.catalog.rows import Catalog
from envbuilder.cli.request import request_from
from envbuilder.cli.resolve_command import command as resolve_command
from envbuilder.errors import NoStackError, UsageError
from envbuilder.grammar import PLATFORMS
from envbuilder.model import Request, Stack
from envbuilder.resolve import objections, resolve
from envbuilder.resolve.candidate_index import index_for
from envbuilder.resolve.command_line import command, parse_request
from envbuilder.resolve.companion_table import (
    companion_table,
    known_companions,
    merged_companions,
    parsed,
    with_companions,
)
from envbuilder.resolve.explain import explain
from envbuilder.resolve.options import every_option

OWN = Path(__file__).parent.parent / "companion_catalog"
CATALOG = catalog.load(own=OWN)
ORACLE = CompanionOracle(Oracle(catalog.FOLDER), OWN)
OPTIONS = {
    "cuda": ["11.7", "11.8", "12", "12.1", "12.4", "12.6", "12.8", "13.0", "13.2"],
    "python": ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"],
    "torch": ["1.13", "2.0", "2.4", "2.4.0", "2.5", "2.9", "2.10", "2.12", "2.14.0", "2.15"],
    "transformers": ["4.40", "4.57", "5.13.1", "5.22"],
    "gpu": ["7.0", "8.0", "8.6", "9.0", "12.0"],
    "driver": ["470.57.02", "535.104.05", "580.65.06"],
    "base": ["bootstrap"],
    "os": ["debian 11", "debian 12"],
    "flavour": ["cpu", "devel"],
    "platform": ["linux/arm64"],
    "as_of": ["2023-12-01", "2025-01-15", "2026-03-01", "2026-10-01"],
}  # fmt: skip
COMPANIONS = [
    "exactkit", "exactkit<0.4", "exactkit==0.2.1", "exactkit>=0.3", "abikit", "abikit<1.3", "linekit", "linekit==1.2.0",
    "suffixkit", "suffixkit-cuda12x", "suffixkit-cuda13x", "purekit", "purekit<1", "oldformers", "newformers",
    "needykit", "metakit", "sourcekit", "nvcckit", "rangekit", "laxkit", "laxkit<1", "topkit",
]  # fmt: skip
LOST = ["deadkit", "elsekit", "nosuchkit", "exactkit==9.9", "exactkitt"]


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def asked(companions: list[str], **options: str) -> Request:
    return parse_request(options, companions=companions)


def stack_of(*companions: str, **options: str) -> Stack:
    return resolve(asked(list(companions), **options), CATALOG)


def refusal_of(*companions: str, **options: str) -> NoStackError:
    with pytest.raises(NoStackError) as caught:
        stack_of(*companions, **options)
    return caught.value


def resolved(request: Request, facts: Catalog = CATALOG) -> Stack | NoStackError:
    try:
        return resolve(request, facts)
    except NoStackError as error:
        return error


# --- against the oracle --------------------------------------------------------------------------------------------


def draw(chance: random.Random, most: int) -> tuple[dict[str, str], list[str]]:
    names = chance.sample(sorted(OPTIONS), chance.choice([0, 1, 1, 2, 2, 3, 5]))
    options = {name: chance.choice(OPTIONS[name]) for name in names}
    count = chance.randint(1, most)
    # Two of one package would be merged.
    by_name = {parsed(text).name: text for text in chance.sample(COMPANIONS, count)}
    return options, sorted(by_name.values())


@pytest.mark.parametrize("seed", few(range(30), fast=4))
def test_companions_agree_with_the_oracle(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(12):
        options, companions = draw(chance, most=3)
        found = resolved(asked(companions, **options))
        best = ORACLE.best(options, companions)
        assert isinstance(found, Stack) == (best is not None), (options, companions)
        if best is None or not isinstance(found, Stack):
            continue
        some, rows = best
        answer = (
            str(found.torch), str(found.cuda or "none"), str(found.python), found.base.reference,
        )  # fmt: skip
        assert answer == some.answer, (options, companions)
        assert len(found.companions) == len(rows)
        names = {
            companion.requirement.split("=")[0]
            .split("<")[0]
            .split(">")[0]
            .split("[")[0]
            for companion in found.companions
        }
        assert names == {row["name"] for row in rows}, (options, companions)


# --- refusals ------------------------------------------------------------------------------------------------------


def impossible(number: int) -> Iterator[Request]:
    """Requests with companions that nothing answers, all different, the same at every run."""
    chance, seen = random.Random(17), set()
    while len(seen) < number:
        options, companions = draw(chance, most=3)
        if chance.random() < 0.1:
            companions.append(chance.choice(LOST))
        request = asked(companions, **options)
        if request not in seen and isinstance(resolved(request), NoStackError):
            seen.add(request)
            yield request


def pasted(text: str) -> Request:
    """The request of a command, by the parser of the command line itself."""
    words = shlex.split(text)
    assert words[:2] == ["envbuilder", "resolve"]
    assert "--catalog" in words
    context = resolve_command.make_context("resolve", words[2:])
    return request_from(context.params)


def only(request: Request, names: set[tuple[str, str]]) -> Request:
    """The request with nothing but these options and companions."""
    for option in every_option(request):
        if option.name == "platform" or not option.is_set(request):
            continue
        if (option.shown_name, option.text_in(request)) not in names:
            request = option.set_in(request, option.default)
    return request


def check(request: Request) -> None:
    error = resolved(request)
    assert isinstance(error, NoStackError)
    names = set(error.conflict)
    core = only(request, names)
    assert isinstance(resolved(core), NoStackError), request
    for pair in names:
        fewer = only(core, names - {pair})
        platforms = (
            PLATFORMS
            if pair[0] == "platform" or "platform" not in dict(names)
            else [core.platform]
        )
        assert any(
            isinstance(resolved(replace(fewer, platform=platform)), Stack)
            for platform in platforms
        ), (request, pair)
    assert error.reasons, request
    assert error.suggestions, request
    for text in error.suggestions:
        again = pasted(text)
        assert isinstance(resolved(again), Stack), text


@pytest.mark.parametrize("count", few([20, 300]))
def test_conflicts_with_companions_are_minimal_and_commands_work(count: int) -> None:
    with_them = 0
    for request in impossible(count):
        check(request)
        error = resolved(request)
        assert isinstance(error, NoStackError)
        with_them += any(name == "with" for name, _ in error.conflict)
    assert with_them > count // 2


def test_two_companions_that_want_other_torches_are_both_named() -> None:
    error = refusal_of("exactkit==0.4.0", "abikit<1.3")
    assert error.message == "no stack has abikit<1.3 and exactkit==0.4.0"
    assert error.conflict == (("with", "abikit<1.3"), ("with", "exactkit==0.4.0"))
    assert (
        "exactkit 0.4.0 needs torch 2.14.0; this is torch 2.5.1" in error.plain_reasons
    )
    assert f"--catalog {OWN}" in error.hint


def test_companion_and_cuda_are_the_smallest_clash() -> None:
    error = refusal_of("suffixkit-cuda12x", cuda="13.0", gpu="H100", python="3.12")
    assert error.message == "no stack has CUDA 13.0 and suffixkit-cuda12x"
    assert error.plain_reasons[0].endswith("is built for CUDA 12; this is CUDA 13.0")
    assert error.suggestions[0].startswith(
        "envbuilder resolve --cuda 12.8 --python 3.12 --gpu H100 --with suffixkit-cuda12x"
    )


def test_companions_that_disagree_on_transformers() -> None:
    error = refusal_of("oldformers", "newformers", cuda="12.8")
    assert error.conflict == (("with", "newformers"), ("with", "oldformers"))
    assert error.plain_reasons == (
        "newformers 3.0.0 to 3.1.0 needs transformers 5.13.1, and oldformers 2.0.0 to 2.3.0 needs 4.57.6",
    )


def test_needed_release_of_another_companion_is_kept() -> None:
    stack = stack_of("needykit", "exactkit")
    assert "exactkit==0.3.2" in stack.extras
    assert stack_of("exactkit").torch.public == "2.14.0"
    error = refusal_of("needykit", "exactkit>=0.4")
    assert error.conflict == (("with", "exactkit>=0.4"), ("with", "needykit"))
    error = refusal_of("needykit", python="3.14")
    assert error.plain_reasons[0] == (
        "needykit 1.0.0 to 1.1.0 needs exactkit<0.4, and exactkit 0.3.0 to 0.3.2 needs torch 2.10.0; "
        "this is torch 2.15.0"
    )


def test_gpu_without_kernels_of_a_companion() -> None:
    error = refusal_of("abikit", gpu="V100")
    assert error.conflict == (("gpu", "V100"), ("with", "abikit"))
    assert any("needs sm_70" in reason for reason in error.plain_reasons)
    assert "abikit" in stack_of("abikit", gpu="H100").extras[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deadkit", "deadkit has had no release since 2023"),
        (
            "elsekit",
            "elsekit on PyPI is another project; the one meant is on GitHub only",
        ),
        ("nosuchthing", f"nosuchthing is no companion in the catalog ({CATALOG.date})"),
        ("exactkit==9.9", f"exactkit==9.9 is not in the catalog ({CATALOG.date})"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(text: str, said: str) -> None:
    error = refusal_of(text, cuda="12.8")
    assert error.message == said
    assert error.conflict == (("with", text),)


def test_companion_of_a_file_is_not_dropped_by_a_command() -> None:
    request = replace(
        asked(["exactkit==0.4.0"], torch="2.12"),
        places=(("exactkit==0.4.0", "requirements.txt:3"),),
    )
    error = resolved(request)
    assert isinstance(error, NoStackError)
    for text in error.suggestions:
        assert "--with" not in text  # the file is read again
        assert "--torch 2.14.0" in text
    both = replace(request, torch=None, companions=("exactkit==0.4.0", "rangekit"))
    places = (
        ("exactkit==0.4.0", "requirements.txt:3"),
        ("rangekit", "pyproject.toml:9"),
    )
    error = resolved(replace(both, places=places))
    assert isinstance(error, NoStackError)
    assert error.suggestions == ()
    assert error.hint == (
        "change exactkit==0.4.0 in requirements.txt:3 or change rangekit in pyproject.toml:9"
    )


def test_unknown_companion_may_be_misspelt_or_another_package() -> None:
    error = refusal_of("exactkitt")
    assert error.suggestions[0].startswith(
        "envbuilder resolve --with exactkit --catalog"
    )
    assert "`--package exactkitt`" in error.hint
    error = refusal_of("exactkit==9.9")
    assert error.problems == ("known: exactkit 0.1.0 to 0.4.0",)


# --- what a stack gets ---------------------------------------------------------------------------------------------


def test_companion_moves_torch_only_where_it_is_open() -> None:
    stack = stack_of("exactkit", cuda="13.0")
    assert str(stack.torch) == "2.14.0"
    assert stack.notes[0] == (
        "torch 2.14.0 for CUDA 13.0, not torch 2.14.1 for CUDA 13.0: exactkit 0.4.0 needs torch 2.14.0"
    )
    assert stack_of("exactkit", torch="2.0").companion_requests == ("exactkit",)
    error = refusal_of("exactkit", torch="2.12")
    assert error.message == "no stack has torch 2.12 and exactkit"


def test_old_companion_dates_its_stack() -> None:
    stack = stack_of("exactkit", torch="2.4.0")
    assert stack.extras == ("exactkit==0.2.4",)
    assert stack.as_of.isoformat() == "2026-02-09"
    day = stack_of("exactkit", torch="2.4.0", as_of="2025-03-01")
    assert day.extras == (
        "exactkit<=0.2.4,>=0.2.0",
    )  # which of them there was, uv knows


def test_family_has_one_package_for_each_cuda() -> None:
    for cuda in ("12.8", "13.0"):
        stack = stack_of("suffixkit", cuda=cuda, as_of="2026-10-05")
        assert stack.extras[0].startswith(f"suffixkit-cuda{cuda[:2]}x")


def test_meta_package_gets_the_extra_of_its_cuda() -> None:
    newer, older = stack_of("metakit", cuda="13.0"), stack_of("metakit", cuda="12.8")
    assert newer.companions[0].requirement.startswith("metakit[core-cu13]")
    assert newer.companions[0].needs == ("cudakit>=13",)
    assert older.companions[0].requirement.startswith("metakit[core-cu12]")


def test_pre_releases_have_to_be_named() -> None:
    error = refusal_of("betakit")
    assert error.message.startswith("betakit has only beta releases")
    assert "--with 'betakit>=4.0.0b3'" in error.suggestions[0]
    assert stack_of("betakit>=4.0.0b3").extras == ("betakit<=4.0.0b36,>=4.0.0b3",)
    assert with_companions(parse_request({}, ["betakit"]), CATALOG).companions == ()


def test_extension_runs_on_the_minor_that_it_was_built_for() -> None:
    assert str(stack_of("abikit>=1.3").torch).startswith("2.9.")
    # A bound from above is what somebody has found out.
    assert str(stack_of("rangekit").torch) == "2.7.1"


def test_old_release_allows_no_newer_torch_than_later_ones() -> None:
    assert stack_of("laxkit").extras == ("laxkit==1.0.0",)
    assert str(stack_of("laxkit").torch) == "2.14.1"
    error = refusal_of("laxkit", torch="2.15")
    assert error.message == "no stack has torch 2.15 and laxkit"


def test_companion_that_another_one_needs_is_pinned_too() -> None:
    stack = stack_of("topkit", cuda="13.0")
    [companion] = stack.companions
    assert companion.needs[0] == "laxkit==1.0.0"
    assert companion.needs[1].startswith("metakit[core-cu13]")


def test_what_a_companion_needs_is_installed_with_it() -> None:
    stack = stack_of("needykit", cuda="12.8")
    assert {"exactkit==0.3.2", "purekit<=1.6.0,>=1.0"} <= set(stack.extras)
    assert stack.apt == ("libopenmpi3",)
    assert (stack.own_extras, stack.own_apt) == ((), ())


def test_companions_that_must_be_built_say_so() -> None:
    [note] = stack_of("sourcekit", cuda="12.8").notes
    assert note.startswith(
        "sourcekit 0.9.0 to 0.19.8 has no wheel: it is built from its source"
    )
    assert "nvcckit: it compiles for hours" in stack_of("nvcckit", cuda="12.8").notes


def test_name_of_a_stack_says_its_companions() -> None:
    plain = stack_of(cuda="12.8")
    one = stack_of("exactkit", cuda="12.8")
    assert "companions" not in serialize.dumps(plain)
    assert one.name.endswith("-debian12-exactkit0.3.2")
    assert one.name_on("py3.13-debian13").endswith("-py3.13-debian13-exactkit0.3.2")
    many = stack_of(
        "exactkit", "metakit", "sourcekit", "linekit", "suffixkit", cuda="12.8"
    )
    assert "-with5-" in many.name
    assert len(many.name) < 100


# --- requests ------------------------------------------------------------------------------------------------------


def test_package_that_is_a_companion_is_the_same() -> None:
    by_package = parse_request({"cuda": "13.0"}, ["exactkit", "lion-pytorch"])
    request = with_companions(by_package, CATALOG)
    assert (request.companions, request.packages) == (("exactkit",), ("lion-pytorch",))
    stack = resolve(by_package, CATALOG)
    assert stack == resolve(replace(request, packages=("lion-pytorch",)), CATALOG)
    assert objections(by_package, stack, CATALOG) == []
    assert objections(request, stack, CATALOG) == []
    other = replace(request, companions=("exactkit<0.4",))
    assert any("companions" in reason for reason in objections(other, stack, CATALOG))


@pytest.mark.parametrize(
    "text",
    [
        "exactkit==9.9",
        "exactkit ; python_version < '3.12'",
        "elsekit @ https://h.example/elsekit-1.0-py3-none-any.whl",
        "peft-kit",
    ],
)
def test_packages_that_stay_packages(text: str) -> None:
    request = with_companions(parse_request({}, [text]), CATALOG)
    assert request.companions == ()


def test_what_torch_brings_is_no_companion() -> None:
    facts = catalog.load()
    request = with_companions(parse_request({"cuda": "12.8"}, ["triton"]), facts)
    assert request.packages == ("triton",)
    plain = resolve(parse_request({"cuda": "12.8"}), facts)
    stack = resolve(parse_request({"cuda": "12.8"}, companions=["triton"]), facts)
    assert (stack.as_of, stack.torch) == (plain.as_of, plain.torch)
    assert f"triton=={plain.triton}" in stack.extras


# --- the pairs that people know, in the built-in catalog ------------------------------------------------------------


@pytest.mark.parametrize(
    ("companion", "options", "torch", "release"),
    [
        ("vllm", {"cuda": "13.0"}, "2.14.0", "vllm==0.33.0"),
        ("vllm==0.26.0", {}, "2.11.0", "vllm==0.26.0"),
        ("vllm", {"torch": "2.10", "python": "3.13"}, "2.10.0", "vllm==0.19.1"),
        ("vllm", {"torch": "2.9.1"}, "2.9.1", "vllm==0.16.0"),
        ("vllm", {"cuda": "12.6"}, "2.7.1", "vllm==0.10.1.1"),
        ("vllm", {"torch": "2.6"}, "2.6.0", "vllm==0.8.5.post1"),
        ("xformers", {"cuda": "12.8"}, "2.10.0", "xformers==0.0.35"),
        ("xformers", {"torch": "2.7.1"}, "2.7.1", "xformers==0.0.31.post1"),
        ("xformers", {"cuda": "11.7"}, "2.0.1", "xformers==0.0.22"),
        ("onnxruntime-gpu", {"cuda": "11.7"}, "2.0.1", "onnxruntime-gpu==1.18.1"),
        ("onnxruntime-gpu", {"cuda": "12.8"}, "2.10.0", "onnxruntime-gpu==1.26.0"),
    ],
)  # fmt: skip
def test_known_pairs(
    companion: str, options: dict[str, str], torch: str, release: str
) -> None:
    stack = resolve(parse_request(options, companions=[companion]), catalog.load())
    assert (str(stack.torch), stack.extras) == (torch, (release,))


def test_old_vllm_gets_the_transformers_of_its_day() -> None:
    stack = resolve(
        parse_request({"cuda": "12.6"}, companions=["vllm"]), catalog.load()
    )
    assert str(stack.as_of) == "2025-09-12"
    assert str(stack.python) == "3.12"


@pytest.mark.parametrize("name", ["apex", "detectron2", "horovod"])
def test_what_is_dead_or_elsewhere_is_one_sentence(name: str) -> None:
    for request in (parse_request({}, [name]), parse_request({}, companions=[name])):
        error = resolved(request, catalog.load())
        assert isinstance(error, NoStackError)
        assert error.message.startswith(f"{name} ")
        assert error.problems == ()


def test_companion_is_merged_with_itself() -> None:
    assert merged_companions(["Exact_Kit>=0.2", "abikit", "exact-kit[x]<0.4"]) == (
        "abikit",
        "exact-kit[x]<0.4,>=0.2",
    )


def test_command_has_companions_and_drops_those_of_settings() -> None:
    request = asked(["exactkit<0.4", "abikit"], cuda="12.8")
    text = command(request)
    assert text == "envbuilder resolve --cuda 12.8 --with abikit --with 'exactkit<0.4'"
    assert command(asked([]), instead_of=request).endswith("--cuda any --with none")
    assert parse_request({}, companions=["none"]).companions == ()


def test_companion_has_no_place_of_its_own() -> None:
    for text in (
        "exactkit @ https://h.example/e.whl",
        "exactkit; python_version < '3'",
        "-x",
        "",
    ):
        with pytest.raises(UsageError):
            asked([text])


def test_explanation_has_what_a_companion_says_of_each_torch() -> None:
    request = asked(["exactkit"], cuda="13.0")
    weighed = explain(request, index_for(CATALOG))
    assert weighed.winner is not None
    reasons = [reason for other in weighed.alternatives for reason in other.reasons]
    assert any(
        "exactkit 0.4.0 needs torch 2.14.0; this is torch 2.14.1 (made up" in text
        for text in reasons
    )


def test_names_of_known_companions() -> None:
    names = known_companions(CATALOG)
    assert {"suffixkit", "suffixkit-cuda12x", "exactkit"} <= set(names)
    assert not {"deadkit", "elsekit"} & set(names)
    newest_first = [row.last for row in companion_table(CATALOG)["exactkit"]]
    assert newest_first == sorted(newest_first, reverse=True)
    assert padded("0.4.0") > padded("0.3.2")
