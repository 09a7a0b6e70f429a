"""Try libraries in processes of their own: what crashes or hangs there is a finding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from embedkit.diagnosis.probe import module_name

_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from embedkit.diagnosis.probe import main; main(sys.argv[2])"
)
_LONGEST_LINE = 200


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a step went.

    Attributes:
        reason: Why it failed, in one line; None where it went well.
        needs: The distribution that failed before and without which it cannot load.
        missing: Whether there is no module of its name.
        seconds: How long it took.
        facts: What the step found.
    """

    reason: str | None = None
    needs: str | None = None
    missing: bool = False
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


def try_chains(chains: Sequence[Sequence[str]], *, seconds: float) -> dict[str, Outcome]:
    """Take the steps of each chain in turn, the chains side by side.

    Where a step fails, the rest of its chain goes on in a new process that does not have its module: a library that
    can do without it then loads.

    Args:
        chains: Names of distributions to import, or of `probe.LOOKS`.
        seconds: How long a process may take.
    """
    outcomes: dict[str, Outcome] = {}
    with ThreadPoolExecutor(max(1, len(chains))) as pool:
        for found in pool.map(lambda chain: _try_chain(chain, seconds), chains):
            outcomes.update(found)
    return outcomes


def _try_chain(chain: Sequence[str], seconds: float) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    hidden: dict[str, str] = {}
    while rest := chain[len(outcomes) :]:
        outcomes.update(_run(rest, hidden, seconds))
        failed = {name: outcome for name, outcome in outcomes.items() if outcome.reason is not None}
        hidden = {module_name(name): outcome.needs or name for name, outcome in failed.items()}
    return outcomes


def _run(steps: Sequence[str], hidden: Mapping[str, str], seconds: float) -> dict[str, Outcome]:
    """Take steps in a new process, up to and including the first that fails."""
    orders = json.dumps({"steps": list(steps), "hidden": list(hidden)})
    command = [sys.executable, "-P", "-c", _CODE, json.dumps(sys.path), orders]
    # Nothing may wait for a network.
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
        written, ending = done.stdout, _describe_ending(done.returncode, done.stderr)
    except subprocess.TimeoutExpired as error:
        written, ending = error.stdout or b"", f"it was not done within {seconds:g} s"
    outcomes = {}
    for answer in map(json.loads, written.splitlines()):
        name, reason = answer.pop("name"), answer.pop("reason", None)
        needs = hidden.get(answer.pop("needs", None))
        outcomes[name] = Outcome(
            reason=reason if needs is None else f"needs {needs}, which does not load",
            needs=needs,
            missing=reason == f"ModuleNotFoundError: No module named {module_name(name)!r}",
            seconds=answer.pop("seconds"),
            facts=answer,
        )
    if len(outcomes) < len(steps) and all(outcome.reason is None for outcome in outcomes.values()):
        outcomes[steps[len(outcomes)]] = Outcome(reason=ending)
    return outcomes


def _describe_ending(code: int, errors: bytes) -> str:
    """Say how a process ended before it had answered, with the last it said."""
    number = -code if code < 0 else code - 128
    killed = number in {one.value for one in signal.Signals}
    by = f", as after {signal.Signals(number).name}" if killed else ""
    lines = [line.strip() for line in errors.decode("utf-8", "replace").splitlines() if line.strip()]
    last = f": {lines[-1][:_LONGEST_LINE]}" if lines else ""
    return f"its process ended with status {128 + number if killed else code}{by}{last}"
