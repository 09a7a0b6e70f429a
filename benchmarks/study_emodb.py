"""The main job on real speech: extract, fit and table on EmoDB, timed command by command.

    python benchmarks/study_emodb.py path/to/emodb path/to/whisper-base

Runs the command line as a user does, in an empty folder, and prints the table with the seconds of each command.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run the three commands and print what they took and found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="EmoDB's folder.")
    parser.add_argument("encoder", type=Path, help="A folder with Whisper-base (or another encoder).")
    parser.add_argument("--without-mfcc", action="store_true", help="Leave out MFCC + LSTM, which take longest.")
    chosen = parser.parse_args()
    encoders = [str(chosen.encoder.resolve())] + ([] if chosen.without_mfcc else ["mfcc"])
    commands = [
        ["extract", str(chosen.corpus.resolve()), *(part for name in encoders for part in ("--encoder", name))],
        ["fit", "--loss", "all"],
        ["table", "--metric", "all"],
    ]
    with tempfile.TemporaryDirectory(prefix="embedkit-study-") as folder:
        for command in commands:
            print(f"{run(command, folder):8.1f} s  embedkit {command[0]}\n", flush=True)


def run(command: list[str], folder: str) -> float:
    """Run one command in the folder and return its seconds."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run([sys.executable, "-m", "embedkit", *command], cwd=folder, env=environment, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
