"""Helpers for all layers. Modules here import nothing else of the package but `analyzer.errors`."""
