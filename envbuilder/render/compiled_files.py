"""What a build context has for packages that are compiled in it: a program, their tools, and each one's archive."""

from envbuilder import resources
from envbuilder.lock.requirements import requirements_text
from envbuilder.lock.sources.source_build import PROGRAM, plan_of, plan_text, tools_text
from envbuilder.model import Layer, Lock, Source, Toolchain

FOLDER = "compiled"
COMPILER = "compile_sources.py"
_REQUIREMENTS = "requirements.txt"
_PLAN = "plan.json"
_TRIM = "trim.txt"
_KEEP_ALL = "keep *  # headers and static libraries: this is what compiles\n"


def place_of_source(place: str, source: Source) -> str:
    """The folder of one package: a change of another one compiles nothing again."""
    return f"{place}/{FOLDER}/{source.name}"


def files_of(lock: Lock, place: str) -> dict[str, str]:
    """The texts of the folder `compiled` below a stack's `place`; none if nothing is compiled."""
    toolchain = lock.toolchain
    if toolchain is None:
        return {}
    folder = f"{place}/{FOLDER}"
    files = {
        f"{folder}/{PROGRAM}": resources.text("sources", PROGRAM),
        f"{folder}/{COMPILER}": resources.text("sources", COMPILER),
        f"{folder}/{_REQUIREMENTS}": toolchain_text(lock, toolchain),
        f"{folder}/{_TRIM}": _KEEP_ALL,
    }
    for source in lock.compiled:
        plan = plan_of(source, None)
        plan["version"] = str(source.version)
        plan["capabilities"] = list(toolchain.capabilities)
        plan["host_compiler"] = toolchain.host_compiler or ""
        own = place_of_source(place, source)
        files[f"{own}/{_PLAN}"] = plan_text([plan])
    return files


def toolchain_text(lock: Lock, toolchain: Toolchain) -> str:
    """A hashed requirements file of NVIDIA's libraries, torch and the tools."""
    text = requirements_text(lock, Layer.NVIDIA, Layer.TORCH)
    # The first line of both says that only wheels are installed.
    _, _, tools = tools_text(toolchain.tools).partition("\n")
    return text + tools


def names_of(lock: Lock, place: str) -> set[str]:
    """The files that a lock has for this, archives among them."""
    names = set(files_of(lock, place))
    for source in lock.compiled:
        own = place_of_source(place, source)
        names.add(f"{own}/{source.archive}")
    return names
