"""`--help` answers at once, because it imports no command."""

import subprocess
import sys
import time


def start(*words: str) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "envbuilder", *words], capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def test_help_lists_every_command_quickly() -> None:
    seconds, text = min(start("--help") for _ in range(5))
    commands = "resolve lock render base build accept inspect init catalog doctor"
    assert all(name in text for name in commands.split())
    assert seconds < 0.3, "bench/run.py holds it to 0.15 s on a quiet machine"


def test_heavy_imports_stay_inside_their_command() -> None:
    code = "import sys, envbuilder.cli; print(*sorted({'docker', 'jinja2', 'rich', 'msgspec'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
