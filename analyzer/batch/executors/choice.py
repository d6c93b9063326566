"""Makes the executor that jobs ask for."""

from __future__ import annotations

from importlib.util import find_spec

from analyzer.batch.config import Jobs
from analyzer.batch.executors.base import Executor
from analyzer.batch.executors.local import local_executor, slot_count
from analyzer.errors import ClusterError

__all__ = ["expected_slots", "make_executor", "needs_ray"]


def expected_slots(jobs: Jobs) -> int | None:
    """How many videos would be analyzed side by side; None: as many as the cluster has room for.

    No cluster is asked.
    """
    if jobs.executor.kind == "local":
        return slot_count(jobs)
    return jobs.workers or None


def make_executor(jobs: Jobs) -> Executor:
    """Make the executor of `Jobs.executor`; the caller closes it.

    Raises:
        ClusterError: Ray is not installed, the cluster cannot be reached, or its machines differ from this
            one.
    """
    if jobs.executor.kind == "local":
        return local_executor(jobs)
    needs_ray()
    from analyzer.batch.executors.ray import ray_executor  # heavy

    return ray_executor(jobs)


def needs_ray() -> None:
    """Check that Ray is installed.

    Raises:
        ClusterError: It is not.
    """
    if find_spec("ray") is None:
        raise ClusterError('executor ray needs the extra ray: pip install "audience-analyzer[ray]"')
