"""An image as the engine describes it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envbuilder.grammar import JsonObject, StackName, matches

NAME_LABEL = "dev.envbuilder.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image in the engine's store. `size` in bytes; `digest` is the registry's, if it came from one."""

    id: str
    labels: Mapping[str, str]
    env: tuple[str, ...]  # NAME=value
    created: str = ""  # ISO 8601
    platform: str = ""  # linux/amd64
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()  # folders whose content no later step can change
    on_build: tuple[str, ...] = ()  # instructions that run in whatever is built on it
    size: int
    digest: str | None
    layers: tuple[str, ...] = ()  # digests of the layers' files, uncompressed
    config: JsonObject = field(default_factory=dict)  # as the engine has it

    @property
    def stack(self) -> str:
        """The stack's name in the image's label, "" if it has none or no valid one: anybody can write a label."""
        name = self.labels.get(NAME_LABEL, "")
        return name if matches(StackName, name) else ""


def facts_of(attrs: JsonObject) -> ImageFacts:
    """The facts in the output of `docker image inspect`."""
    config = attrs.get("Config") or {}
    return ImageFacts(
        id=attrs["Id"],
        labels=config.get("Labels") or {},
        env=tuple(config.get("Env") or ()),
        created=attrs.get("Created") or "",
        platform=_platform(attrs),
        user=config.get("User") or "",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        volumes=tuple(config.get("Volumes") or ()),
        on_build=tuple(config.get("OnBuild") or ()),
        size=attrs["Size"],
        digest=_digest(attrs.get("RepoDigests") or ()),
        layers=tuple((attrs.get("RootFS") or {}).get("Layers") or ()),
        config=config,
    )


def _platform(attrs: JsonObject) -> str:
    parts = [attrs.get(key) for key in ("Os", "Architecture", "Variant")]
    return "/".join(part for part in parts if part)


def _digest(references: Sequence[str]) -> str | None:
    """The digest of the first `NAME@sha256:…`."""
    for reference in references:
        _, separator, digest = reference.partition("@")
        if separator:
            return digest
    return None
