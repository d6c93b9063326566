"""`analyzer serve`: runs, jobs and corrections in a browser, and an API for programs.

The server never decodes or analyzes anything itself: jobs run in the processes of the batch's local executor,
everything else that touches pixels in those of `analyzer.web.tasks`.
"""

from __future__ import annotations

from analyzer.web.config import ServeConfig

__all__ = ["ServeConfig"]
