"""Lock → slurm/train.sbatch: the training job for Slurm, in an Apptainer image."""

from envbuilder.render.targets import NOTICE, Project
from envbuilder.render.targets.cluster_job import ENTRYPOINT, SETTINGS, job_of
from envbuilder.templates import fill

__all__ = ("EXECUTABLE", "SETTINGS", "files")
EXECUTABLE = ("slurm/train.sbatch",)


def files(project: Project) -> dict[str, str]:
    """The batch script."""
    job = job_of(project)
    values = {
        "notice": NOTICE,
        "job": job,
        "stack": job.lock.stack,
        "entrypoint": ENTRYPOINT,
    }
    return {"slurm/train.sbatch": fill("slurm/train.sbatch.j2", values)}
