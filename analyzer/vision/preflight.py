"""Check the models of a run before it writes anything."""

from __future__ import annotations

from analyzer.settings import Settings
from analyzer.vision import registry
from analyzer.vision.sandbox import try_out
from analyzer.vision.selection import choose
from analyzer.vision.user_model import Description, read_onnx

__all__ = ["check_models"]


def check_models(settings: Settings) -> None:
    """Check that all files of the chosen models are there and have the right hashes; none is loaded here.

    A user's own models are tried out in a separate process.

    Raises:
        ModelError: A model is missing, altered, unknown, or refused.
    """
    choice = choose(settings)
    own = [one for one in (choice.age, choice.gender) if isinstance(one, Description) and one.by_user]
    for one in dict.fromkeys(own):
        read_onnx(one)
        try_out(one, settings)
    for model in choice.models:
        if model not in [one.model for one in own]:
            for file in model.files:
                registry.read(model, file)
