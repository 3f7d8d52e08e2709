"""The payload is no package: its folder is put on the path, as in an image."""

import json
import os
import sys
from pathlib import Path

PAYLOAD = Path(__file__).parents[2] / "docker" / "payload"
NO_FILE = f"{os.devnull}/envbuilder.lock"  # below a file there is nothing, on any machine
BOUNDS = json.loads((PAYLOAD / "acceptance" / "bounds.json").read_text())
sys.path.insert(0, str(PAYLOAD))
