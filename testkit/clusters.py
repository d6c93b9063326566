"""Ray clusters on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["cluster"]

_OBJECT_STORE_BYTES = 100 * 2**20


@contextlib.contextmanager
def cluster(*cpus: int, apart: Path | None = None) -> Iterator[Any]:
    """Give a `ray.cluster_utils.Cluster`, to which this process is connected for the block.

    Args:
        cpus: Processors of each machine, however many there are really; the first one is the head.
        apart: Folder in which each machine gets a folder of its own for temporary files, ``0``, ``1``, ...;
            None: they share that of this machine.
    """
    import ray
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    common = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    nodes = [{"num_cpus": count, **common} | _own_folder(apart, number) for number, count in enumerate(cpus)]
    made = _patiently(lambda: Cluster(initialize_head=True, head_node_args=nodes[0]))
    try:
        for node in nodes[1:]:
            _patiently(lambda node=node: made.add_node(**node))
        ray.init(made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _own_folder(apart: Path | None, number: int) -> dict[str, Any]:
    if apart is None:
        return {}
    folder = apart / str(number)
    folder.mkdir()
    return {"env_vars": {"TMPDIR": str(folder)}}


def _patiently(start: Callable[[], Any]) -> Any:
    """Start something of Ray, which waits 30 s for it: a busy machine may need longer."""
    for again in (True, True, False):
        try:
            return start()
        except Exception as error:
            if not again or "timed out during startup" not in str(error):
                raise
    raise AssertionError
