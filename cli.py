"""Run embedkit from a bare checkout: python cli.py --help."""

from embedkit.cli import main

main()
