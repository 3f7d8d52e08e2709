"""A request as a command: what is pasted into a shell is what was asked."""

import shlex

import pytest

from envbuilder import catalog
from envbuilder.errors import NoStackError
from envbuilder.model import Request
from envbuilder.resolve import resolve
from envbuilder.resolve.command_line import command, parse_request


def request(*packages: str, **options: str) -> Request:
    return parse_request(options, packages)


def test_special_characters_are_quoted_for_the_shell() -> None:
    wanted = request("peft<0.12", "a[x]==1", gpu="RTX 4090", os="debian12")
    text = command(wanted)
    assert text == (
        "envbuilder resolve --gpu 'RTX 4090' --os 'debian 12' --package 'peft<0.12' --package 'a[x]==1'"
    )
    assert shlex.split(text)[2:] == [
        "--gpu", "RTX 4090", "--os", "debian 12", "--package", "peft<0.12", "--package", "a[x]==1"
    ]  # fmt: skip


def test_dropped_options_are_written_with_their_default() -> None:
    before = request(cuda="11.7", base="bootstrap", platform="arm64", flavour="devel")
    text = command(
        request(torch="2.0"), "lock", instead_of=before, flags=["--catalog mine"]
    )
    assert text.startswith("envbuilder lock --torch 2.0 ")
    words = text.split()[4:]
    assert sorted(" ".join(pair) for pair in zip(words[::2], words[1::2], strict=True)) == [
        "--base auto", "--catalog mine", "--cuda any", "--flavour runtime", "--platform linux/amd64"
    ]  # fmt: skip
    assert words[-2:] == ["--catalog", "mine"]


def test_unknown_values_are_reported_before_impossible_ones() -> None:
    for options in (
        {"cuda": "12.5", "transformers": "9.9"},
        {"transformers": "9.9", "driver": "390"},
    ):
        with pytest.raises(NoStackError) as caught:
            resolve(request(**options), catalog.load())
        assert caught.value.conflict == (("transformers", "9.9"),)
        assert caught.value.message.startswith(
            "transformers 9.9 is not in the catalog ("
        )


def test_days_and_drivers_are_written_the_usual_way() -> None:
    text = command(request(as_of="2026-11-09", driver="580.65.06", torch="2.0.0"))
    assert (
        text == "envbuilder resolve --torch 2.0.0 --driver 580.65.06 --as-of 2026-11-09"
    )
