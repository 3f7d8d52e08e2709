"""Only a closed ASCII grammar gets past the door."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envbuilder.errors import UsageError
from envbuilder.request import parse_base, parse_cuda, parse_package, parse_request, parse_tag, shown

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


@pytest.mark.parametrize(("said", "meant"), [("11.7", "11.7"), ("cu117", "11.7"), ("cu128", "12.8"), ("12", "12")])
def test_cuda_as_people_write_it(said: str, meant: str) -> None:
    assert str(parse_cuda(said)) == meant


@pytest.mark.parametrize("text", ["python:3.10\nRUN x", "UPPER:1", "a b", "", "x" * 300, "-rf", "a:b:c", 'a"b'])
def test_a_base_is_an_image_reference(text: str) -> None:
    with pytest.raises(ValueError, match="a base is"):
        parse_base(text)


@pytest.mark.parametrize("text", ["envbuilder", "Envbuilder:x", "a:b c", "a:" + "x" * 129, "a:-b", "a:b\n", "$(x):y"])
def test_a_tag_has_a_name_and_a_tag(text: str) -> None:
    with pytest.raises(ValueError, match="a tag is"):
        parse_tag(text)


@pytest.mark.parametrize("text", ["a:b", "host.example:5000/team/train:cu117", "envbuilder:cu117-torch2.0.1"])
def test_good_tags_pass(text: str) -> None:
    assert parse_tag(text) == text


@pytest.mark.parametrize(
    "text", ["peft @ https://x.example/p.whl", "peft; python_version<'3'", "--index-url x", "a\nb"]
)
def test_a_package_is_a_name_with_a_version(text: str) -> None:
    with pytest.raises(ValueError, match="a package is"):
        parse_package(text)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        parse_request({"cuda": "x", "python": "y"}, ["@"])
    assert len(caught.value.problems) == 3


def test_a_base_of_your_own_needs_a_python() -> None:
    with pytest.raises(UsageError, match="needs --python"):
        parse_request({"base": "debian:12"})


@given(st.text())
def test_nothing_unprintable_gets_into_a_message(text: str) -> None:
    said = shown(text)
    assert said.isprintable()
    assert len(said) < 100
