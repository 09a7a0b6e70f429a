"""Doctor: say what this machine has and what works on it."""

from __future__ import annotations

from embedkit.arguments import checked
from embedkit.diagnosis.hardware import device_rows, machine_rows, program_rows
from embedkit.diagnosis.hub import hub_rows
from embedkit.diagnosis.packages import PAIR, UNASKED, extra_rows, library_rows, mending_commands
from embedkit.diagnosis.project import Project, installed_version, own_rows, read_project
from embedkit.diagnosis.rows import Examination
from embedkit.diagnosis.trial import try_chains

ON_TRANSFORMERS = ("accelerate", "peft")
"""Tried in the process that has loaded transformers already: that takes longest."""


@checked("examine_machine")
def examine_machine(*, time_limit: float = 60.0) -> Examination:
    """Look at Python, libraries, extras, devices, threads, memory, disks and the Hub cache of this machine.

    Libraries are loaded in processes of their own, several at a time: one that crashes or hangs is a finding. Nothing
    is changed or fetched, and no network is asked.

    Args:
        time_limit: Seconds after which such a process is ended.
    """
    project = read_project()
    outcomes = try_chains(_choose_chains(project), seconds=time_limit)
    commands = mending_commands(project)
    rows = [
        *own_rows(project),
        *program_rows(),
        *library_rows(project, outcomes),
        *extra_rows(project, outcomes),
        *device_rows(outcomes["devices"], reinstall=commands["torch"]),
        *machine_rows(outcomes["devices"], outcomes["cache"]),
        *hub_rows(outcomes["cache"]),
    ]
    return Examination.of(rows)


def _choose_chains(project: Project) -> list[list[str]]:
    """Put distributions that build on each other in one chain; those of extras are tried where they are installed."""
    required = [one.name for one in project.required]
    extras = dict.fromkeys(one.name for parts in project.extras.values() for one in parts)
    installed = [name for name in extras if installed_version(name) is not None and name not in required]
    unasked = [name for name in UNASKED if installed_version(name) is not None]
    first = [*PAIR, *unasked, "transformers", *(name for name in installed if name in ON_TRANSFORMERS), "devices"]
    hub = ["huggingface-hub", "cache"]
    others = [[name for name in names if name not in (*first, *hub)] for names in (required, installed)]
    return [first, *others, hub]
