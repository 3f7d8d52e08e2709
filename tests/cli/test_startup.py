"""`--help` imports no command. How long it takes, `bench/speed.py` measures."""

import subprocess
import sys


def test_help_lists_every_command() -> None:
    words = [sys.executable, "-m", "envbuilder", "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    commands = "resolve lock render base build accept inspect init catalog doctor"
    assert [name for name in commands.split() if name not in done.stdout] == []


def test_heavy_imports_stay_inside_their_command() -> None:
    code = "import sys, envbuilder.cli; print(*sorted({'docker', 'jinja2', 'rich', 'msgspec'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
