"""The recipes, by name. A recipe's module is imported when it is asked for, and holds it as `RECIPE`."""

from __future__ import annotations

import importlib

from analyzer.errors import SettingsError
from analyzer.training.recipes.base import Recipe

__all__ = ["RECIPES", "find_recipe"]

RECIPES = {"small": "small", "mobilenetv2": "mobilenetv2", "levi-hassner": "levi_hassner", "heads": "heads"}
"""Name of each recipe -> its module in this package."""


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        SettingsError: There is none.
    """
    if name not in RECIPES:
        raise SettingsError(f"there is no recipe {name}: choose one of {', '.join(RECIPES)}")
    recipe: Recipe = importlib.import_module(f"{__name__}.{RECIPES[name]}").RECIPE
    return recipe
