"""``python -m analyzer ...``: hands over to `analyzer.cli`."""

from analyzer.cli import main

if __name__ == "__main__":
    main()
