"""Which files `docker compose` reads, by its own word: what `init` refuses to hide follows from it. Starts nothing."""

import os
import subprocess
from pathlib import Path

import pytest

from envbuilder.render import clashes
from envbuilder.render.clashes import COMPOSE, own_compose_command

pytestmark = pytest.mark.container


def services(folder: Path, *words: str) -> set[str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("COMPOSE_")
    }
    done = subprocess.run(
        ["docker", "compose", *words, "config", "--services"],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def put(folder: Path, name: str) -> str:
    service = name.replace(".", "-")
    (folder / name).write_text(f"services: {{{service}: {{image: x}}}}\n")
    return service


@pytest.mark.parametrize("other", clashes._OTHER_COMPOSE)
def test_our_file_hides_the_others(tmp_path: Path, other: str) -> None:
    theirs = put(tmp_path, other)
    assert services(tmp_path) == {theirs}
    ours = put(tmp_path, COMPOSE)
    assert services(tmp_path) == {ours}
    (tmp_path / ".env").write_text(f"COMPOSE_FILE={other}\n")
    assert services(tmp_path) == {theirs}, "the way out that the hint names"
    words = own_compose_command().split()[2:-2]
    assert services(tmp_path, *words) == {ours}


@pytest.mark.parametrize("override", clashes._OVERRIDES)
def test_an_override_is_added_to_our_file(tmp_path: Path, override: str) -> None:
    ours = put(tmp_path, COMPOSE)
    added = put(tmp_path, override)
    assert services(tmp_path) == {ours, added}
    (tmp_path / ".env").write_text(f"COMPOSE_FILE={COMPOSE}\n")
    assert services(tmp_path) == {ours}
