"""``python cli.py ...``: hands over to `analyzer.cli`."""

import sys

try:
    from analyzer.__main__ import command_line

    main = command_line()
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("analyzer"):
        raise
    sys.stderr.write(
        f"Error: this Python has no package {error.name}: run make demo, then .venv/bin/python cli.py\n"
    )
    sys.exit(3)  # NOTHING_USABLE

if __name__ == "__main__":
    main()
