"""`--platform linux/arm64`: a CUDA version without arm64 wheels is refused, and the suggestions work."""

import re
import shlex

import pytest
from packaging.version import Version

from envbuilder.catalog.rows import Catalog

from .conftest import Run


@pytest.mark.slow
def test_cuda_version_without_arm64_wheels_is_refused_with_working_suggestions(
    run: Run, facts: Catalog
) -> None:
    having = {build.torch for build in facts.torch if "linux/arm64" in build.platforms}
    without = {build.torch for build in facts.torch} - having
    assert "2.0.1" in map(str, without)
    # Each suggested command locks a whole stack: the oldest, the guide's and the newest will do.
    some = {min(without), Version("2.0.1"), max(without)}
    for torch in sorted(some):
        refused = run("lock", "--torch", str(torch), "--platform", "linux/arm64")
        assert (refused.code, refused.out) == (4, "")
        assert refused.err.startswith(
            f"error: no stack has torch {torch} and linux/arm64\n"
        )
        commands = re.findall(r"`(envbuilder [^`]+)`", refused.err)
        assert commands
        for command in commands:
            assert run(*shlex.split(command)[1:]).code == 0, command


@pytest.mark.parametrize("cuda", ["13.0", "13.2"])
def test_a_line_with_wheels_for_it_resolves(run: Run, cuda: str) -> None:
    answer = run("resolve", "--cuda", cuda, "--platform", "linux/arm64")
    assert answer.code == 0, answer.err
    assert answer.out.splitlines()[0].endswith("-arm64")
