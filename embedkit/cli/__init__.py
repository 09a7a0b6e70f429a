"""The command line: options, printing and errors around the calls of `embedkit.workflows`.

One file for each command, named as its workflow. Workflows are imported inside the commands, so that `--help` imports
no torch. What a command finds goes to standard output, everything it says meanwhile to standard error.
"""

try:
    from embedkit.cli.application import app, main
except KeyboardInterrupt:
    # Ctrl-C before anything has begun.
    raise SystemExit(130) from None
except ImportError:
    # Where the other author's package has overwritten modules of ours, nothing else of ours can be relied on.
    from embedkit.installation import find_conflict

    if (_conflict := find_conflict()) is None:
        raise
    raise SystemExit(f"Error: {_conflict}") from None

__all__ = ["app", "main"]
