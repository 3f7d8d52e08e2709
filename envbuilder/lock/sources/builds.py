"""Which source packages may be built."""

from enum import StrEnum


class SourceBuilds(StrEnum):
    """Which source packages may be built: that runs their own programs, as `pip install` does."""

    ALL = "all"  # those that the user names, and what they depend on
    NAMED = "named"  # those whose place the user names
    NONE = "none"
