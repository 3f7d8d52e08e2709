"""Name one cause once: a check that fails with the error of an earlier one says that it is because of that one.

If torch does not import, thirty checks fail with the same error. The status of each stays what it is.
"""

from __future__ import annotations

import re
from typing import Any

# An error as Python prints it. What follows the first words may differ from process to process, as paths do.
ERROR = re.compile(r"\b([A-Za-z_]\w*(?:Error|Exception)): (\S[^;]{11,49})")
CUSTOM = "own."  # custom checks speak for themselves


class Causes:
    """The errors so far, each with the check that had it first."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def attribute(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a result; of one that follows from an earlier one, detail and remedy name that one."""
        check_id = fields["id"]
        if fields["status"] not in ("failed", "error") or check_id.startswith(CUSTOM):
            return fields
        errors = signatures(fields["detail"])
        for error in errors:
            cause = self._first.get(error)
            if cause is not None:
                # What stands in front of the error is kept: "the training job broke: ".
                end = fields["detail"].index(error) + len(error)
                return {
                    **fields,
                    "detail": f"because of {cause}: {fields['detail'][:end]}",
                    "remedy": f"fix {cause} first",
                }
        for error in errors:
            self._first[error] = check_id
        return fields


def signatures(detail: str) -> list[str]:
    """Each error in a detail, in the form in which it is the same everywhere."""
    return [f"{kind}: {text.rstrip()}" for kind, text in ERROR.findall(detail)]
