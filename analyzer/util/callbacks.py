"""Callbacks of callers, whose exceptions reach the caller unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

__all__ = ["Callback"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Callback(Generic[_P, _T]):
    """Calls a caller's function, and remembers the exception that it raised.

    Code that turns all exceptions into its own calls `reraise` first: the caller's exceptions reach the
    caller unchanged, whatever wrapped them on the way.

    Args:
        function: The caller's function.
    """

    def __init__(self, function: Callable[_P, _T]) -> None:
        self._function = function
        self._error: BaseException | None = None

    def __call__(self, *args: _P.args, **more: _P.kwargs) -> _T:
        """Call the function.

        Raises:
            BaseException: Whatever it raises.
        """
        try:
            return self._function(*args, **more)
        except BaseException as error:
            self._error = error
            raise

    def forget(self) -> None:
        """Forget an exception that was raised before."""
        self._error = None

    def reraise(self) -> None:
        """Raise the exception of the function again, if it raised one.

        Raises:
            BaseException: That exception.
        """
        if self._error is not None:
            raise self._error
