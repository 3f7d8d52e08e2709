"""Versions as people write them: a prefix means all that begins with it, and NVIDIA pads the numbers of its drivers."""

from collections.abc import Iterable

from packaging.version import Version


def matches_prefix(prefix: Version, version: Version) -> bool:
    """Whether `prefix` is a prefix of `version`: 11.7 is one of 11.7.99; 11.70 and 11.7.1 are not."""
    return (
        version.release[: len(prefix.release)] == prefix.release
        and prefix.pre == version.pre
    )


def matches_any(prefix: Version, versions: Iterable[Version]) -> bool:
    """Whether `prefix` is a prefix of one of `versions`."""
    return any(matches_prefix(prefix, version) for version in versions)


def minor_line(version: Version) -> str:
    """`12.8` of 12.8.90."""
    return f"{version.major}.{version.minor}"


def listed(versions: Iterable[object]) -> str:
    """`3.8, 3.9, 3.10`, each once."""
    return ", ".join(dict.fromkeys(map(str, versions)))


def driver_text(driver: Version) -> str:
    """A driver as NVIDIA writes it: 580.65.06."""
    numbers = [str(number) for number in driver.release[:2]]
    numbers += [f"{number:02d}" for number in driver.release[2:]]
    return ".".join(numbers)


def driver_reaches(driver: Version, floor: str) -> bool:
    """Whether a driver is `floor` or newer; of a branch such as 580, whether some driver of it is."""
    least = Version(floor).release
    numbers = driver.release
    # No driver for PCs ends so. Jetson Thor's calls itself 580.00, whichever of the branch it is.
    if not any(numbers[1:]):
        return driver.major >= least[0]
    parts = len(numbers)
    return numbers >= least[:parts]
