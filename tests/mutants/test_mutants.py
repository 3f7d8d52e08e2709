"""Every sabotaged image is caught by the named check with the named diagnosis; `make mutants` prints the table."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from container.engine import Image, docker, envbuilder

from envbuilder.acceptance import suite
from envbuilder.acceptance.event_stream import SuiteEvents
from envbuilder.model import Check

from .catalog import MUTANTS, Mutant

CA = os.environ.get("PIP_CERT") or "/etc/ssl/certs/ca-certificates.crt"
BY_HOST_ONLY = {"suite.complete", *suite.OUTSIDE}


def build(image: Image, mutant: Mutant, folder: Path) -> str:
    """The mutant's image id; the image itself if only the way it is run is broken."""
    if not mutant.dockerfile:
        return image.id
    site = image.outcome["receipt"]["facts"]["site_packages"]
    lines = mutant.dockerfile.replace("$S", site)
    user = "" if "USER" in lines else "\nUSER 1000"
    (folder / "Dockerfile").write_text(f"FROM {image.tag}\nUSER 0\n{lines}{user}\n")
    argv = [
        "buildx",
        "build",
        "--quiet",
        "--load",
        "--secret",
        f"id=ca,src={CA}",
        str(folder),
    ]
    return docker(*argv).stdout.strip()


def judged_inside(made: str, mutant: Mutant) -> list[Check]:
    """The named check alone, run in the mutant."""
    words = ["run", "--rm", "--network", "none", "--shm-size", "1g", *mutant.run, made]
    own_entrypoint = (
        ["/opt/envbuilder/payload/acceptance"]
        if "--entrypoint" in mutant.run
        else ["accept"]
    )
    done = docker(
        *words,
        *own_entrypoint,
        "--json-lines",
        "--only",
        mutant.check,
        *mutant.accept,
        check=False,
    )
    watch = SuiteEvents()
    for line in done.stdout.splitlines():
        watch.feed(line)
    assert watch.titles, done.stderr
    return watch.checks("")


def judged_by_host(made: str, mutant: Mutant, folder: Path) -> list[Check]:
    only = ",".join(
        mutant.beside
        if mutant.check == "suite.complete"
        else (mutant.check, *mutant.beside)
    )
    answer = envbuilder(
        "accept", made, "--json", "--only", only, *mutant.accept, cwd=folder
    )
    assert answer.code == 7, answer.err
    receipt = json.loads(answer.out)
    assert receipt["verdict"] != "passed"
    return [Check(**check) for check in receipt["checks"]]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_caught(
    image: Image,
    mutant: Mutant,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    made = build(image, mutant, tmp_path)
    try:
        checks = (
            judged_by_host(made, mutant, tmp_path)
            if mutant.by_host
            else judged_inside(made, mutant)
        )
    finally:
        if made != image.id:
            docker("rmi", "--force", made, check=False)
    fired = {
        check.id: check.detail
        for check in checks
        if check.status in ("failed", "error")
    }
    record_property("fired", " ".join(fired) or "none")
    record_property("said", fired.get(mutant.check, ""))
    evidence = "error" if mutant.check == "suite.complete" else "failed"
    assert [check.status for check in checks if check.id == mutant.check] == [
        evidence
    ], fired
    assert re.search(mutant.says, fired[mutant.check]), fired[mutant.check]


def test_there_are_enough_mutants_with_unique_names() -> None:
    assert len(MUTANTS) >= 36
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_check_kills_a_mutant() -> None:
    checks = {*suite.bounds()["bounds"], *BY_HOST_ONLY}
    assert checks - {mutant.check for mutant in MUTANTS} == set()
