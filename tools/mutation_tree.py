"""A copy of the tree in which one mutant at a time is tested, within limits."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation import ROOT, Mutant, MutantError

_PYTEST = ("-q", "-x", "-p", "no:cacheprovider", "--hypothesis-seed=0", "-m",
           "not container and not network and not browser and not mutation")  # fmt: skip
_TIMES_CPU = 5  # CPU seconds that a mutant may take, in those of the original
_TIMES_WALL = 10  # on the clock: the machine may be busy with other things
_START_S = 10.0  # starting Python and importing everything, on top
_TESTS_PASSED, _NO_TESTS, _LIMIT_REACHED = 0, 5, -9


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one start of pytest ended with, and the CPU seconds it took."""

    code: int
    cpu: float
    output: str


class Tree:
    """A copy of the working tree in which one mutant at a time is tested, by a worker that stands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            if not (ROOT / name).is_file():
                continue  # deleted and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        # By hash, not by time: a mutant may be written in the same second and be of the same size as the original.
        compiled = [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            "--invalidation-mode",
            "checked-hash",
            "envbuilder",
        ]
        subprocess.run(compiled, cwd=folder, check=True)
        # An editable install looks for envbuilder in the working tree unless this comes first.
        self._environ = os.environ | {
            "PYTHONPATH": str(folder.resolve()),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        where = [sys.executable, "-c", "import envbuilder; print(envbuilder.__file__)"]
        done = subprocess.run(
            where,
            cwd="/",
            check=True,
            capture_output=True,
            text=True,
            env=self._environ,
        )
        if not Path(done.stdout.strip()).is_relative_to(folder.resolve()):
            raise MutantError(
                f"the tests would import {done.stdout.strip()}, which no mutant changes"
            )
        self._worker: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Tree":
        worker = [sys.executable, str(self.folder / "tools" / "mutation_worker.py")]
        self._worker = subprocess.Popen(
            worker,
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker:
            self._worker.communicate()  # nothing more to read is its end

    def run(
        self, words: Sequence[str], *, cpu_s: float = 1800.0, wall_s: float = 3600.0
    ) -> Run:
        """Run pytest with these tests and options; -9 is the code where a limit was reached."""
        if (
            self._worker is None
            or self._worker.stdin is None
            or self._worker.stdout is None
        ):
            raise MutantError("a tree is entered before it runs anything")
        output = self.folder / "output.txt"
        order = {
            "words": [*_PYTEST, *words],
            "cpu_s": cpu_s,
            "wall_s": wall_s,
            "output": str(output),
        }
        print(json.dumps(order), file=self._worker.stdin, flush=True)
        answer = json.loads(self._worker.stdout.readline())
        return Run(
            code=int(answer["code"]),
            cpu=answer["cpu_s"],
            output=output.read_text(errors="replace"),
        )

    def must_pass(self, words: Sequence[str], what: str) -> Run:
        """Run tests on the original: one that fails anyway would kill every mutant."""
        done = self.run(words)
        if done.code != _TESTS_PASSED:
            raise MutantError(
                f"the tests of {what} fail on the original:\n{done.output[-3000:]}"
            )
        return done

    def cover(self, words: Sequence[str], files: Sequence[str]) -> Path:
        """The data of `coverage` of a run of pytest, with the test function that ran each line."""
        settings = self.folder / "coverage.ini"
        settings.write_text(
            f"[run]\ndynamic_context = test_function\ninclude = {','.join(files)}\n",
            encoding="utf-8",
            newline="\n",
        )
        argv = [
            sys.executable,
            "-m",
            "coverage",
            "run",
            f"--rcfile={settings}",
            "-m",
            "pytest",
            *_PYTEST,
            *words,
        ]
        done = subprocess.run(
            argv,
            cwd=self.folder,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != _TESTS_PASSED:
            raise MutantError(
                f"these tests fail under coverage: {' '.join(words)}\n{done.stdout[-3000:]}"
            )
        return self.folder / ".coverage"

    def test(self, mutant: Mutant, tests: Iterable[str], cpu_s: float) -> str:
        """Whether these tests notice a mutant."""
        path = self.folder / mutant.file
        original = path.read_text(encoding="utf-8")
        path.write_text(mutant.source, encoding="utf-8", newline="\n")
        try:
            limit = _TIMES_CPU * cpu_s + _START_S
            done = self.run(
                [*tests], cpu_s=limit, wall_s=_TIMES_WALL * cpu_s + 6 * _START_S
            )
        finally:
            path.write_text(original, encoding="utf-8", newline="\n")
        if done.code == _NO_TESTS:
            raise MutantError(f"{mutant.name}: no test was found in {' '.join(tests)}")
        if done.code == _LIMIT_REACHED:
            return "timed out"
        return "survived" if done.code == _TESTS_PASSED else "killed"
