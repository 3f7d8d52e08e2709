"""Each option: what it takes, where its grammar ends, and the sentence for what it does not take."""

from datetime import date

import pytest
from packaging.version import Version

from envbuilder.errors import UsageError
from envbuilder.model import Flavour, Request
from envbuilder.resolve.command_line import parse_option, parse_request, quoted
from envbuilder.resolve.option_row import option_name
from envbuilder.resolve.parsers import parse_base, parse_package, parse_tag

VERSION = "a version is digits and dots, such as 11.7"
GPU = "a GPU is a name such as H100, or a compute capability such as 8.6"
OS = "an operating system is a name such as debian12 or bookworm"
BASE = (
    "a base is auto, bootstrap or an image reference such as python:3.10-slim-bookworm"
)
TAG = "a tag is lower-case, name:tag, such as registry.example/team/train:1"
PACKAGE = "a package is a name with an optional version, such as peft or 'peft<0.12'"
DAY = "a day is YYYY-MM-DD, such as 2026-11-09"
DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("cuda", "11.7", Version("11.7")),
        ("cuda", "CUDA 11.7", Version("11.7")),
        ("cuda", "cu-11.7", Version("11.7")),
        ("cuda", "cu11", Version("11")),
        ("cuda", "cu118", Version("11.8")),
        ("cudnn", "CUDNN 9", Version("9")),
        ("cudnn", "cudnn-8.5.0.96", Version("8.5.0.96")),
        ("python", "3.10", Version("3.10")),
        ("torch", "1.2.3.4", Version("1.2.3.4")),
        ("torchvision", "0.15", Version("0.15")),
        ("transformers", "9999", Version("9999")),
        ("driver", "580.65.06", Version("580.65.6")),
        ("gpu", "sm86", "8.6"),
        ("gpu", "sm_100", "10.0"),
        ("gpu", "compute_86", "8.6"),
        ("gpu", "RTX 4090 (24GB)", "RTX 4090 (24GB)"),
        ("gpu", "A" * 96, "A" * 96),
        ("os", "Ubuntu:22.04", "ubuntu 22.04"),
        ("os", "debian-9", "debian 9"),
        ("os", "Bookworm", "bookworm"),
        ("os", "rocky linux", "rocky linux"),
        ("base", "auto", "auto"),
        ("base", "bootstrap", "bootstrap"),
        ("flavour", "runtime", Flavour.RUNTIME),
        ("platform", "Linux/x64", "linux/amd64"),
        ("platform", "linux-x86-64", "linux/amd64"),
        ("platform", "ARM64/SBSA", "linux/arm64"),
        ("as_of", "2026-11-09", date(2026, 11, 9)),
    ],
)
def test_accepted_values_of_options(name: str, text: str, value: object) -> None:
    found = parse_option(name, text)
    assert found == value
    assert str(found) == str(value)  # 2.0 and 2.0.0 are equal and mean different things


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cuda", "11.7\n", VERSION),
        ("cuda", "12345", VERSION),
        ("cuda", "11.", VERSION),
        ("cuda", "9" * 30, f"too long: {VERSION}"),
        ("cuda", "cpu", "an image without CUDA is a flavor: `--flavor cpu`"),
        (
            "flavour",
            "devl",
            "a flavour is one of runtime, devel, cpu; did you mean devel?",
        ),
        ("cuda", ".7", VERSION),
        ("cuda", "1.2.3.4.5", VERSION),
        ("cuda", "cu", VERSION),
        ("cuda", "cu11789", VERSION),
        ("cuda", "cu117" + "0" * 250, f"too long: {VERSION}"),
        ("cuda", "xcu117", VERSION),
        ("cudnn", "cudnn", VERSION),
        ("cudnn", "cudnn" + "8" * 251, VERSION),
        ("python", "3.10rc1", VERSION),
        ("driver", "٥", VERSION),
        ("gpu", "", GPU),
        ("gpu", "A" * 97, GPU),
        ("gpu", "-A100", GPU),
        ("gpu", "A100;x", GPU),
        ("gpu", "A100\n", GPU),
        ("gpu", "sm_" + "8" * 300, GPU),
        ("os", "debian 123", OS),
        ("os", "ubuntu 22.4", OS),
        ("os", "ab", OS),
        ("os", "\N{KELVIN SIGN}ali 12", OS),
        ("os", "debian 12\n", OS),
        ("os", "a" * 256, OS),
        ("flavour", "gpus", "a flavour is one of runtime, devel, cpu"),
        (
            "flavour",
            "Runtime",
            "a flavour is one of runtime, devel, cpu; did you mean runtime?",
        ),
        ("platform", "linux/riscv64", "a platform is one of linux/amd64, linux/arm64"),
        ("as_of", "2026-02-30", DAY),
        ("as_of", "20261109", DAY),
        ("as_of", "2026-11-9", DAY),
        ("as_of", "2026-11-09\n", DAY),
        ("as_of", "today", DAY),
    ],
)
def test_refused_values_of_options(name: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match="is") as caught:
        parse_option(name, text)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    "text",
    [
        "python",
        "python:3.10-slim-bookworm",
        "registry.example/team/base:1",
        "Registry-1.Example.ORG:5000/z0",
        "X/a",
        "localhost:5000/a/b_c/d__e.f-g:Tag_1.x",
        f"python@sha256:{DIGEST}",
        f"python:3@sha256:{DIGEST}",
        "a:" + "x" * 128,
    ],
)
def test_references_of_images(text: str) -> None:
    assert parse_base(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "a:" + "x" * 129, "a:-x", "a/", "/a", "a//b", "a_-b", "A", "a@sha256:abc", f"a@sha256:{DIGEST}0", "a\n", "-a",
        "localhost:123456/a", "a:b\n", "a" * 256, f"a@sha512:{DIGEST}", "a..b",
    ],
)  # fmt: skip
def test_invalid_image_references(text: str) -> None:
    with pytest.raises(ValueError, match="is") as caught:
        parse_base(text)
    assert str(caught.value) == BASE


@pytest.mark.parametrize(
    "text", ["a:b", "a/b:C", "localhost:5000/a:1", "a:" + "x" * 128, f"{'a' * 253}:b"]
)
def test_tags_of_images(text: str) -> None:
    assert parse_tag(text) == text


@pytest.mark.parametrize(
    "text",
    ["a", "a:", "A:b", "a:b:c", "a:b\n", f"{'a' * 254}:b", f"a:b@sha256:{DIGEST}"],
)
def test_invalid_tags(text: str) -> None:
    with pytest.raises(ValueError, match="is") as caught:
        parse_tag(text)
    assert str(caught.value) == TAG


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("peft", "peft"),
        ("peft <0.12", "peft<0.12"),
        ("a[z,b] >=1,<2", "a[b,z]<2,>=1"),
        ("a" * 255, "a" * 255),
    ],
)
def test_packages(text: str, value: str) -> None:
    assert parse_package(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@",
        "a b",
        "a @ a.whl",
        "a; extra == 'x'",
        "a\n",
        "a\t",
        "a" * 256,
        "-r x",
    ],
)
def test_invalid_packages(text: str) -> None:
    with pytest.raises(ValueError, match="is") as caught:
        parse_package(text)
    assert str(caught.value) == PACKAGE


def test_a_value_is_shown_whole_up_to_sixty_characters() -> None:
    assert quoted("x") == "'x'"
    assert quoted("x" * 58) == f"'{'x' * 58}'"
    assert quoted("x" * 59) == f"'{'x' * 55}…' (59 characters)"
    assert quoted("it's" + "x" * 60) == f'"it\'s{"x" * 51}…" (64 characters)'
    assert quoted("\x1b" * 20) == "'" + r"\x1b" * 13 + "…' (20 characters)"
    assert quoted([10] * 20) == "[" + "10, " * 13 + "10,…"
    assert quoted("a\x1b[2J\n") == r"'a\x1b[2J\n'"


def test_packages_keep_their_order_and_any_is_a_name() -> None:
    found = parse_request(
        {"cuda": "11.7", "torch": "any", "gpu": None}, ["b", "any", "a<1"]
    )
    assert found == Request(cuda=Version("11.7"), packages=("b", "any", "a<1"))


def test_one_problem_is_the_message_and_more_are_a_list() -> None:
    hint = "see `envbuilder resolve --help` for what each option takes"
    with pytest.raises(UsageError) as caught:
        parse_request({"cuda": "x"})
    assert (caught.value.message, list(caught.value.problems), caught.value.hint) == (
        f"--cuda 'x': {VERSION}",
        [],
        hint,
    )
    with pytest.raises(UsageError) as caught:
        parse_request({"cuda": "x", "as_of": "y"}, ["fine", "@"])
    assert caught.value.message == "the request has several errors"
    assert list(caught.value.problems) == [
        f"--cuda 'x': {VERSION}", f"--as-of 'y': {DAY}", f"--package '@': {PACKAGE}"
    ]  # fmt: skip
    assert caught.value.hint == hint


def test_custom_base_needs_a_python() -> None:
    with pytest.raises(UsageError) as caught:
        parse_request({"base": "mine:1"})
    said = (
        "--base mine:1 needs --python X.Y: the version inside the image cannot be known"
    )
    assert caught.value.message == said
    assert parse_request({"base": "mine:1", "python": "3.10"}).base == "mine:1"
    for known in ("auto", "bootstrap"):
        assert parse_request({"base": known}) == Request(base=known)


def test_an_option_is_spelt_with_dashes() -> None:
    assert (option_name("as_of"), option_name("cuda")) == ("as-of", "cuda")


def test_flavor_and_flavour_are_one_option() -> None:
    assert (
        parse_request({"flavor": "devel"})
        == parse_request({"flavour": "devel"})
        == Request(flavour=Flavour.DEVEL)
    )
    assert parse_option("flavor", "cpu") is Flavour.CPU
    with pytest.raises(UsageError) as caught:
        parse_request({"flavour": "cpu", "flavor": "devel"})
    assert (
        caught.value.message == "--flavor and --flavour are the same option: give one"
    )
    with pytest.raises(
        UsageError, match="--flavor 'gpu': a flavour is one of runtime, devel, cpu"
    ):
        parse_request({"flavor": "gpu"})


def test_unknown_option_name_is_a_programming_error() -> None:
    with pytest.raises(KeyError):
        parse_request({"color": "red"})
    with pytest.raises(KeyError):
        parse_option("color", "red")
