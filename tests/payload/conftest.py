"""The payload is no package: its folder is put on the path, as in an image."""

import sys
from pathlib import Path

PAYLOAD = Path(__file__).parents[2] / "docker" / "payload"
sys.path.insert(0, str(PAYLOAD))
