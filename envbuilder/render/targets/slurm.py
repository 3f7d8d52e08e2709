"""Lock → slurm/train.sbatch: the training job for Slurm, in an Apptainer image."""

from envbuilder.render.targets import MARK, Project
from envbuilder.render.targets.cluster_job import ENTRYPOINT, OPTIONS, SETTINGS, TRAIN, job_of
from envbuilder.templates import fill

__all__ = ("EXECUTABLE", "SETTINGS", "files")
EXECUTABLE = ("slurm/train.sbatch",)


def files(project: Project) -> dict[str, str]:
    """The batch script."""
    job = job_of(project)
    paths = {"entrypoint": ENTRYPOINT, "options": OPTIONS, "train": TRAIN}
    values = {"mark": MARK, "job": job, "stack": job.lock.stack, **paths}
    return {"slurm/train.sbatch": fill("slurm/train.sbatch.j2", values)}
