"""`python /opt/envbuilder/payload/acceptance [OPTIONS]` runs the suite."""

import sys
from pathlib import Path

# Python puts the folder it runs first on its path; the package is found from the one above.
sys.path[0] = str(Path(__file__).resolve().parents[1])
sys.path.append(
    "/opt/envbuilder/payload"
)  # the training job of an image of ours, for a suite sent from the host

from acceptance.main import main  # noqa: E402

sys.exit(main())
