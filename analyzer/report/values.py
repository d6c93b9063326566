"""Values of tables as plain Python values, as JSON has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["known_value", "records"]


def known_value(value: Any) -> Any:
    """A plain Python value; None for missing, infinite and not-a-number values."""
    if value is None or value is pd.NA or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries of plain values."""
    plain = table.astype(object).where(table.notna() & ~table.isin([np.inf, -np.inf]), None)
    return [dict(zip(plain.columns, row, strict=True)) for row in plain.itertuples(index=False, name=None)]
