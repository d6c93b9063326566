"""What every layer may use: no module here imports another one of the package but `analyzer.errors`."""
