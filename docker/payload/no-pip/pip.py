"""`%pip` in the notebook: the packages are locked, so this says in one sentence what to do, as `pip` does."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["PIP_IN_NOTEBOOK"] = "1"
    program = str(Path(__file__).with_name("pip"))
    os.execv(program, [program, *sys.argv[1:]])
