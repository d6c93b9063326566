"""Functions of callers, whose exceptions are theirs and no fault of ours to explain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

__all__ = ["Callback"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Callback(Generic[_P, _T]):
    """Calls a caller's function, and remembers what it has raised.

    Code that turns all exceptions into something else calls `reraise` first, so that those of the caller
    reach the caller as they are, whatever has become of them on the way.

    Args:
        function: The caller's.
    """

    def __init__(self, function: Callable[_P, _T]) -> None:
        self._function = function
        self._error: BaseException | None = None

    def __call__(self, *args: _P.args, **more: _P.kwargs) -> _T:
        """Call it.

        Raises:
            BaseException: Whatever it raises.
        """
        try:
            return self._function(*args, **more)
        except BaseException as error:
            self._error = error
            raise

    def forget(self) -> None:
        """Begin anew: what was raised before is over."""
        self._error = None

    def reraise(self) -> None:
        """Raise what the function has raised, if it has.

        Raises:
            BaseException: That.
        """
        if self._error is not None:
            raise self._error
