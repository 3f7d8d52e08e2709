"""How an accepted image is written for a registry: the compression of its layers, and attestations next to it.

Only the form of the image changes, not what is in it: BuildKit writes it again from its cache, and the pipeline
compares that with the accepted image before it is pushed.
"""

import re
from dataclasses import dataclass

from envbuilder.engine.image import ImageFacts
from envbuilder.errors import EngineError, UsageError

COMPRESSIONS = ("zstd", "gzip", "estargz")
_ATTESTATION = re.compile(
    r"type=(provenance|sbom)(,[a-z][a-z-]*=[A-Za-z0-9][A-Za-z0-9._/:@-]*)*"
)
_DEFAULT_BUILDER = "default"  # the engine's own, in the context of that name


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """`compression` "" leaves it to the engine; `attestations` are passed to buildx's `--attest`."""

    compression: str = ""
    attestations: tuple[str, ...] = ()

    @property
    def writes_again(self) -> bool:
        """Whether the image has to be written in another form than the engine's."""
        return bool(self.compression or self.attestations)

    def output_words(self) -> list[str]:
        """The options of buildx that keep the image in that form in the engine's store."""
        output = "type=image,oci-mediatypes=true"
        if self.compression:
            output += f",compression={self.compression},force-compression=true"
        words = ["--output", output]
        for attestation in self.attestations:
            words += ["--attest", attestation]
        if not any("type=provenance" in one for one in self.attestations):
            words.append("--provenance=false")
        return words

    def describe(self) -> str:
        """`zstd, type=provenance,mode=max`, for a person."""
        parts = [self.compression, *self.attestations]
        return ", ".join(part for part in parts if part)


def parse_attestation(text: str) -> str:
    """What buildx's `--attest` takes: `type=provenance,mode=max`."""
    if not _ATTESTATION.fullmatch(text):
        raise ValueError(
            "an attestation is type=provenance or type=sbom, with further key=value pairs after commas"
        )
    return text


def check_store(options: PushOptions, *, containerd: bool, builder: str | None) -> None:
    """Raise `UsageError` or `EngineError` if this builder or engine cannot keep an image in that form."""
    if not options.writes_again:
        return
    if builder not in (None, _DEFAULT_BUILDER):
        raise UsageError(
            f"--compression and --attest need the engine's own builder, not {builder}: "
            "the image is compared with the accepted one before it is pushed",
            hint="leave out --builder",
        )
    if containerd:
        return
    raise EngineError(
        f"this engine's image store cannot keep an image with {options.describe()}",
        hint='set `{"features": {"containerd-snapshotter": true}}` in its daemon.json and restart it, '
        "or leave out --compression and --attest",
    )


def is_same_image(one: ImageFacts, other: ImageFacts) -> bool:
    """Whether two images hold the same files and the same configuration, in whatever form they are kept."""
    if not one.layers:
        return False
    same_files = one.layers == other.layers
    same_settings = one.config == other.config
    return same_files and same_settings and one.platform == other.platform
