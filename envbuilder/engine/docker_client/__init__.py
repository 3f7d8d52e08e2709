"""The Docker SDK, behind the few verbs this tool needs. The one package that imports `docker`; it is imported late.

Every container and volume it makes carries a label with this run's id and is removed by the context manager that made
it, also after Ctrl-C; `DockerEngine.sweep` removes what a killed run left behind.
"""

from envbuilder.engine.docker_client.connection import SILENCE
from envbuilder.engine.docker_client.docker_engine import DockerEngine

__all__ = ["SILENCE", "DockerEngine"]
