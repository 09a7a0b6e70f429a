"""The command line: options, printing and errors around the calls of `embedkit.workflows`.

One file for each command, named as its workflow. Workflows are imported inside the commands, so that `--help` imports
no torch. What a command finds goes to standard output, everything it says meanwhile to standard error.
"""

try:
    from embedkit.cli.application import app, main
except KeyboardInterrupt:
    # Ctrl-C before anything has begun.
    raise SystemExit(130) from None

__all__ = ["app", "main"]
