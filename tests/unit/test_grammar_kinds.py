"""What each kind of text from outside takes, at its edges."""

import pytest

from envbuilder import grammar


@pytest.mark.parametrize("kind", ["CodeName", "NumbersOrNone"])
def test_kinds_that_allow_empty_text(kind: str) -> None:
    assert grammar.matches(getattr(grammar, kind), "")
    assert not grammar.matches(getattr(grammar, kind), "no\nname; 1")
    assert not grammar.matches(getattr(grammar, kind), "\n")


@pytest.mark.parametrize(
    "text", ["linux/amd64 ", "xlinux/arm64", "linux/amd64x", "linux/riscv64", ""]
)
def test_platform_is_amd64_or_arm64(text: str) -> None:
    assert [grammar.matches(grammar.Platform, name) for name in grammar.PLATFORMS] == [
        True,
        True,
    ]
    assert not grammar.matches(grammar.Platform, text)
