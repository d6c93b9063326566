"""What tests and benchmarks share: made media whose truth is known."""
