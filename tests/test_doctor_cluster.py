"""``doctor --executor ray``: every check of a cluster can fail, and then suggests a fix."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ray.exceptions import AuthenticationError, RaySystemError

from analyzer.batch.config import ExecutorChoice, Jobs
from analyzer.batch.executors import choice
from analyzer.batch.executors.base import Executor
from analyzer.batch.executors.ray_cluster import _why_not
from analyzer.cli import cli
from analyzer.cli.options import DONE, SOME_FAILED, USAGE
from analyzer.doctor import cluster as doctor_cluster
from analyzer.doctor.cluster import _Machine, _one, _workers, examine_cluster
from analyzer.doctor.machine import Check
from analyzer.errors import ClusterError
from analyzer.settings import Settings
from testkit.clusters import cluster

RAY = ExecutorChoice(kind="ray", cpus=2, memory_mb=500)
HERE = _Machine("a", None, ("m1",), 4, 8192.0, "/tmp", 10**11, 0.0)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)])


# --- what is checked ---------------------------------------------------------------------------------


def test_without_the_extra_nothing_else_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    (check,) = examine_cluster(RAY)
    assert check.state == "failed" and 'pip install "audience-analyzer[ray]"' in check.found and check.fix


def test_where_nothing_answers_nothing_else_is_checked() -> None:
    (check,) = examine_cluster(replace(RAY, address="127.0.0.1:1"))
    assert (check.name, check.state) == ("Ray", "failed")
    assert check.found.startswith("nothing answers at 127.0.0.1:1 (Connection refused)")
    assert check.fix.startswith("check that the cluster runs there")


def node(cpus: float, memory: float = 4e9, objects: float = 1e9) -> dict[str, Any]:
    resources = {"CPU": cpus, "memory": memory, "object_store_memory": objects}
    return {"NodeManagerHostname": "a", "Resources": resources}


@pytest.mark.parametrize(
    ("nodes", "state", "found", "fix"),
    [
        ([node(4), node(1), node(2)], "ok", "room for 3, of 2 cores, 500 MB each", ""),
        (
            [node(0), node(1)],
            "failed",
            "no machine has room for one, of 2 cores",
            "add a machine, or set less",
        ),
        ([node(4, memory=1e8)], "failed", "no machine has room", "[executor] cpus, memory_mb"),
        ([node(4, objects=6e7)], "warning", "a has 60 MB for objects of Ray", "/dev/shm"),
    ],
)
def test_there_must_be_room_for_workers(
    nodes: list[dict[str, Any]], state: str, found: str, fix: str
) -> None:
    check = _workers(RAY, nodes).check("workers")
    assert check.state == state and found in check.found and fix in check.fix and bool(check.fix) == bool(fix)


def test_a_driver_of_many_workers_opens_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_cluster, "_open_files", lambda: 1024)
    assert _workers(RAY, [node(400, memory=1e12)]).check("workers").state == "ok"
    check = _workers(RAY, [node(800, memory=1e12)]).check("workers")
    assert check.state == "warning" and "driver of 400 workers may need 1,800 open files" in check.found
    assert "1,024" in check.found and "hard limit" in check.fix


@pytest.mark.parametrize(
    ("changes", "state", "found", "fix"),
    [
        ({}, "ok", "a: 4 cores, 8.0 GB available, 100.0 GB free in /tmp", ""),
        ({"free_bytes": 10**9}, "warning", "1.0 GB free in /tmp", "[executor] scratch"),
        ({"problem": "a has av 17.0, this machine 18.1"}, "failed", "a has av 17.0", "the same version"),
        ({"models": ("m2",)}, "failed", "other models (m2) than this machine (m1)", "the same version"),
        ({"time_s": -90.0}, "warning", "its clock differs by 90 s", "timedatectl set-ntp true"),
        ({"time_s": 95.0}, "warning", "its clock differs by 90 s", "timedatectl set-ntp true"),
        ({"time_s": 6.0}, "ok", "a: 4 cores", ""),
    ],
)
def test_each_machine_must_be_like_this_one(
    changes: dict[str, Any], state: str, found: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "get", lambda ref: replace(HERE, **changes))
    check = _one(None, "a", ("m1",), (0.0, 5.0)).check("machine")
    assert check.state == state and found in check.found and fix in check.fix and bool(check.fix) == bool(fix)


def test_a_machine_that_cannot_run_the_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray
    from ray.exceptions import RayTaskError

    def fail(ref: object) -> None:
        error = ModuleNotFoundError("No module named 'analyzer'")
        raise RayTaskError("_machine", "Traceback", error).as_instanceof_cause()

    monkeypatch.setattr(ray, "get", fail)
    check = _one(None, "b", (), (0.0, 1.0)).check("machine")
    assert check.state == "failed" and check.found.startswith("b cannot run audience-analyzer")
    assert "No module named 'analyzer'" in check.found and "install it there" in check.fix


# --- the command -------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ExecutorChoice, list[Settings]]]:
    """What the command checks, in place of checking it."""
    calls: list[tuple[ExecutorChoice, list[Settings]]] = []

    def examine(choice: ExecutorChoice, settings: list[Settings]) -> list[Check]:
        calls.append((choice, settings))
        return [Check("Ray", "failed", "no", "yes")]

    monkeypatch.setattr(doctor_cluster, "examine_cluster", examine)
    output = importlib.import_module("analyzer.cli.doctor")  # the package has a command of that name
    monkeypatch.setattr(output, "examine", lambda out: [Check("python", "ok", "3", "")])
    return calls


def test_the_cluster_of_a_jobs_file_or_of_options_is_checked(
    asked: list[tuple[ExecutorChoice, list[Settings]]], tmp_path: Path
) -> None:
    jobs = tmp_path / "jobs.toml"
    jobs.write_text('preset = "fast"\n[executor]\nkind = "ray"\ncpus = 3\n[[source]]\nfile = "a.mp4"\n')
    result = run("--jobs", jobs, "--json")
    assert result.exit_code == SOME_FAILED
    assert [check["name"] for check in json.loads(result.stdout)] == ["python", "Ray"]
    run("--executor", "ray", "--address", "local")
    assert asked == [
        (ExecutorChoice(kind="ray", cpus=3), [Settings.from_preset("fast")]),
        (ExecutorChoice(kind="ray", address="local"), []),
    ]
    assert run().exit_code == run("--jobs", jobs, "--executor", "local").exit_code == DONE
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--address", "auto"], "--address is for a cluster: add --executor ray"),
        (["--executor", "ray", "--address", "x"], "address must be auto"),
    ],
)
def test_wrong_clusters_are_usage_errors(flags: list[str], sentence: str) -> None:
    result = run(*flags)
    assert result.exit_code == USAGE and sentence in result.stderr


def test_the_small_video_need_not_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Jobs] = []

    def refuse(jobs: Jobs) -> Executor:
        asked.append(jobs)
        raise ClusterError("busy")

    monkeypatch.setattr("analyzer.batch.executors.ray.ray_executor", refuse)
    with pytest.raises(ClusterError):
        doctor_cluster._analysis(replace(RAY, source="shared"))
    assert [jobs.executor for jobs in asked] == [replace(RAY, source="auto")]


@pytest.mark.slow
def test_a_cluster_of_two_machines_passes() -> None:
    with cluster(2, 2):
        checks = list(examine_cluster(RAY))
    assert [check.name for check in checks] == ["Ray", "workers", "machine", "machine", "analysis"]
    assert {check.state for check in checks} == {"ok"}, checks
    assert "2 machines" in checks[0].found and "room for 2" in checks[1].found
    assert "a small video on " in checks[-1].found


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("auto", ConnectionError("Could not find any running Ray instance."), "ray start --head"),
        ("auto", ConnectionError("Found multiple active Ray instances: {...}"), "--address HOST:PORT"),
        ("local", Exception("The current node timed out"), "cannot be started on this machine"),
        (
            "a:6379",
            ConnectionError("Failed to connect to Ray cluster"),
            "has its token",
        ),
        ("a:6379", AuthenticationError("no"), "copy ~/.ray/auth_token from its head"),
        ("a:6379", RuntimeError("Version mismatch: The cluster was started with"), "install the same on all"),
        ("ray://a:1", RaySystemError("Ray Client requires pip package `ray[client]`"), "pip install"),
    ],
)
def test_why_a_cluster_cannot_be_used_is_one_sentence(address: str, error: Exception, words: str) -> None:
    sentence = _why_not(address, error)
    assert words in sentence and "\n" not in sentence
