"""Where the figures of a report come from: models, settings, versions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analyzer.report.document import ModelRow, Provenance, Valued
from analyzer.runs.run import Run
from analyzer.runs.run_info import RunInfo

__all__ = ["provenance"]

_SETTINGS = (
    *("preset", "fps", "every", "keyframes", "start_s", "end_s", "duration_s", "budget", "detector"),
    *("detector_size", "min_score", "min_face_px", "attributes", "gender_model", "age_model"),
    *("min_estimate_px", "scene", "attention_yaw_deg", "attention_pitch_deg", "attention_min_s"),
    *("left_after_s", "commercial", "min_confidence", "gender_of_children", "reuse_s", "age_bands"),
    *("device", "precision"),
)
_VERSIONS = ("python", "av", "openvino", "onnxruntime", "opencv-python", "yt-dlp")


def provenance(runs: Sequence[Run]) -> Provenance:
    """The models, settings and versions of some runs, with the number of runs that have each."""
    infos = [run.info for run in runs]
    models: dict[tuple[str, str], ModelRow] = {}
    for info in infos:
        for facts in info["models"]:
            model: Mapping[str, Any] = facts
            entry: ModelRow = {
                "name": model.get("name"),
                "role": model.get("role"),
                "license": model.get("license"),
                "commercial_use": model.get("commercial_use"),
                "sha256": model.get("sha256"),
                "trained_on": model.get("trained_on"),
                "known_bias": model.get("known_bias"),
                "videos": 0,
            }
            models.setdefault((str(entry["name"]), str(entry["sha256"])), entry)["videos"] += 1
    settings = [_counted(name, [_setting(info, name) for info in infos]) for name in _SETTINGS]
    versions = [_counted("analyzer", [info.get("analyzer_version") for info in infos])]
    for name in _VERSIONS:
        known = [info.get(name) or (info.get("libraries") or {}).get(name) for info in infos]
        versions.append(_counted(name, known))
    times = sorted(str(info["analyzed_at"]) for info in infos if info.get("analyzed_at"))
    fitted = {info["calibration"].get("fitted_on") or "" for info in infos}
    return {
        "models": list(models.values()),
        "settings": [one for one in settings if one["values"]],
        "versions": [one for one in versions if one["values"]],
        "fitted_on": sorted(fitted - {""}),
        "schema_versions": sorted({int(info["schema_version"]) for info in infos}),
        "analyzed_at": [times[0], times[-1]] if times else [],
    }


def _setting(info: RunInfo, name: str) -> Any:
    return info["preset"] if name == "preset" else info["settings"].get(name)


def _counted(name: str, values: Sequence[Any]) -> Valued:
    counts = Counter(str(value) for value in values if value is not None)
    return {"name": name, "values": [{"value": value, "videos": n} for value, n in counts.most_common()]}
