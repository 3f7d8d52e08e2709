"""Every sabotaged image is caught by the named check with the named diagnosis; `make mutants` prints the table."""

import json
import os
import re
from pathlib import Path

import pytest
from container.engine import Answer, Image, docker, envbuilder

from envbuilder.acceptance.watch import Watch

from .catalog import MUTANTS, Mutant

CA = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"


def build(image: Image, mutant: Mutant, folder: Path) -> str:
    """The mutant's image id; the image itself if only the way it is run is broken."""
    if not mutant.dockerfile:
        return image.id
    site = image.outcome["receipt"]["facts"]["site_packages"]
    lines = mutant.dockerfile.replace("$S", site)
    user = "" if "USER" in lines else "\nUSER 1000"
    (folder / "Dockerfile").write_text(f"FROM {image.tag}\nUSER 0\n{lines}{user}\n")
    argv = ["buildx", "build", "--quiet", "--load", "--secret", f"id=ca,src={CA}", str(folder)]
    return docker(*argv).stdout.strip()


def judged_inside(made: str, mutant: Mutant) -> dict[str, dict[str, str]]:
    """The named checks alone, run in the mutant."""
    words = ["run", "--rm", "--network", "none", "--shm-size", "1g", *mutant.run, made, "accept", "--json-lines"]
    done = docker(*words, "--only", mutant.check.replace("|", ","), check=False)
    watch = Watch()
    for line in done.stdout.splitlines():
        watch.feed(line)
    assert watch.titles, done.stderr
    return {check.id: {"status": check.status.value, "detail": check.detail} for check in watch.checks("")}


def judged_by_host(made: str, mutant: Mutant, folder: Path) -> dict[str, dict[str, str]]:
    answer: Answer = envbuilder("accept", made, "--json", "--deadline", str(mutant.deadline), cwd=folder)
    assert answer.code == 7, answer.err
    receipt = json.loads(answer.out)
    assert receipt["verdict"] == "failed"
    return {check["id"]: check for check in receipt["checks"]}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_caught(image: Image, mutant: Mutant, tmp_path: Path) -> None:
    made = build(image, mutant, tmp_path)
    try:
        checks = judged_by_host(made, mutant, tmp_path) if mutant.by_host else judged_inside(made, mutant)
        fired = {name: check for name, check in checks.items() if check["status"] in ("failed", "error")}
        named = {name: check for name, check in fired.items() if name in mutant.check.split("|")}
        assert named, f"survived; fired: {fired}"
        told = " ".join(check["detail"] for check in named.values())
        assert re.search(mutant.says, told), told
    finally:
        if made != image.id:
            docker("rmi", "--force", made, check=False)


def test_there_are_enough_mutants_and_each_has_a_name_of_its_own() -> None:
    assert len(MUTANTS) >= 36
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
