"""Checks of a machine (`machine`) and of a cluster (`cluster`), with fixes for what is missing."""
