"""Many videos, night after night: jobs, ledger, queue, engine."""
