"""Run the command line as `python -m embedkit`."""

import sys

# Python puts the current folder first; what lies there is taken for no module that is installed.
if not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from embedkit.cli import main

main()
