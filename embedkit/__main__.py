"""Run the command line as `python -m embedkit`."""

from embedkit.cli import main

main()
