"""Only a closed ASCII grammar gets past the door."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.catalog.rows import Catalog
from envbuilder.cli.settings import REQUEST_OPTIONS
from envbuilder.errors import UsageError
from envbuilder.model import Flavour, Request
from envbuilder.resolve.command_line import parse_option, parse_request, quoted
from envbuilder.resolve.option_row import Option
from envbuilder.resolve.options import OPTIONS
from envbuilder.resolve.parsers import parse_base, parse_package, parse_tag
from envbuilder.resolve.request_rows import look_up

BAD = [
    "",
    " 11.7",
    "11.7 ",
    "11.7\n",
    "11.7\nRUN touch /x",
    "１１.７",
    "11,7",
    "v11.7",
    "11.7.0.0.0",
    "-1",
    "1" * 1_000_000,
]


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:12]))
def test_a_bad_version_is_refused_in_one_short_message(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_request({"cuda": text})
    assert caught.value.exit_code == 2
    assert len(caught.value.message) < 200
    assert "\n" not in caught.value.message
    assert caught.value.hint


CUDA = "11.7=11.7 11.7.1=11.7.1 cu117=11.7 cu128=12.8 CU130=13.0 12=12 cu12=12 cuda11.7=11.7 cuda12=12 cuda-12.4=12.4"
OS = {
    "debian12": "debian 12",
    "Debian 12": "debian 12",
    "debian:12": "debian 12",
    "debian-12": "debian 12",
}
OS |= {
    "bookworm": "bookworm",
    "ubuntu22.04": "ubuntu 22.04",
    "ubuntu:24.04": "ubuntu 24.04",
}
ARM = (
    "linux/arm64",
    "arm64",
    "aarch64",
    "sbsa",
    "SBSA",
    "linux-sbsa",
    "arm64-sbsa",
    "linux/arm64/v8",
    "linux/aarch64",
)


@pytest.mark.parametrize(("said", "meant"), [pair.split("=") for pair in CUDA.split()])
def test_cuda_as_people_write_it(said: str, meant: str) -> None:
    assert str(parse_option("cuda", said)) == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [("8", "8"), ("8.5", "8.5"), ("cudnn8", "8"), ("cudnn9.1", "9.1")],
)
def test_cudnn_as_people_write_it(said: str, meant: str) -> None:
    assert str(parse_option("cudnn", said)) == meant


@pytest.mark.parametrize(("said", "meant"), OS.items())
def test_an_operating_system_as_people_write_it(said: str, meant: str) -> None:
    assert parse_option("os", said) == meant


@pytest.mark.parametrize(
    "text",
    ["", "debian 12\nRUN x", "12", "debian/12", "débian12", "a" * 300, "debian12;x"],
)
def test_an_operating_system_is_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="an operating system is"):
        parse_option("os", text)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("8.6", "8.6"),
        ("sm_86", "8.6"),
        ("sm120", "12.0"),
        ("compute_90", "9.0"),
        ("H100", "H100"),
    ],
)
def test_a_gpu_as_people_write_it(said: str, meant: str) -> None:
    assert parse_option("gpu", said) == meant


@pytest.mark.parametrize("said", ARM)
def test_arm64_as_people_write_it(said: str) -> None:
    assert parse_option("platform", said) == "linux/arm64"


@pytest.mark.parametrize("said", ["linux/amd64", "amd64", "x86_64", "x86-64"])
def test_amd64_as_people_write_it(said: str) -> None:
    assert parse_option("platform", said) == "linux/amd64"


@pytest.mark.parametrize(
    "name", ["windows/amd64", "arm", "linux/linux/arm64", "", "riscv64"]
)
def test_there_are_two_platforms(name: str) -> None:
    with pytest.raises(
        ValueError, match="a platform is one of linux/amd64, linux/arm64"
    ):
        parse_option("platform", name)


def test_a_flavour_is_one_of_three() -> None:
    assert parse_request({"flavour": "devel"}).flavour is Flavour.DEVEL
    with pytest.raises(UsageError, match="a flavour is one of runtime, devel, cpu"):
        parse_request({"flavour": "gpu"})


def test_any_leaves_an_option_open() -> None:
    assert parse_request(dict.fromkeys(REQUEST_OPTIONS, "any")) == Request()


@pytest.mark.parametrize(
    "text",
    ["python:3.10\nRUN x", "UPPER:1", "a b", "", "x" * 300, "-rf", "a:b:c", 'a"b'],
)
def test_a_base_is_an_image_reference(text: str) -> None:
    with pytest.raises(ValueError, match="a base is"):
        parse_base(text)


@pytest.mark.parametrize(
    "text",
    [
        "envbuilder",
        "Envbuilder:x",
        "a:b c",
        "a:" + "x" * 129,
        "a:-b",
        "a:b\n",
        "$(x):y",
    ],
)
def test_a_tag_has_a_name_and_a_tag(text: str) -> None:
    with pytest.raises(ValueError, match="a tag is"):
        parse_tag(text)


@pytest.mark.parametrize(
    "text", ["a:b", "host.example:5000/team/train:cu117", "envbuilder:cu117-torch2.0.1"]
)
def test_good_tags_pass(text: str) -> None:
    assert parse_tag(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "peft @ p.whl",
        "peft; extra == 'x'",
        "--index-url x",
        "a\nb",
    ],
)
def test_a_package_is_a_name_with_a_version(text: str) -> None:
    with pytest.raises(ValueError, match="a package is"):
        parse_package(text)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(UsageError) as caught:
        parse_request({"cuda": "x", "python": "y"}, ["@"])
    assert len(caught.value.problems) == 3


def test_custom_base_needs_a_python() -> None:
    with pytest.raises(UsageError, match="needs --python"):
        parse_request({"base": "mine:1"})


@given(st.text())
def test_messages_are_printable(text: str) -> None:
    said = quoted(text)
    assert said.isprintable()
    assert len(said) < 100


def test_every_option_is_a_request_field_and_table_row() -> None:
    of_packages = {
        "packages",
        "companions",
        "constraints",
        "requires_python",
        "bounds",
        "places",
    }
    names = [f.name for f in fields(Request) if f.name not in {*of_packages, "apt"}]
    assert sorted(names) == sorted(option.name for option in OPTIONS)
    assert sorted(names) == sorted(REQUEST_OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_command_line_accepts_every_known_value(option: Option, facts: Catalog) -> None:
    values = option.known_values(facts)
    assert bool(values) is (option.name not in ("driver", "as_of"))
    for value in values:
        option.parse(str(value))
        assert (
            option.diagnose(look_up(option.set_in(Request(), value), facts)) is None
            or option.name == "gpu"
        )
