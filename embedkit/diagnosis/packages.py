"""What is installed of that which embedkit asks for, whether it loads, and the commands that mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from packaging.requirements import Requirement

from embedkit.diagnosis.project import Project, installed_version, installer
from embedkit.diagnosis.rows import Row
from embedkit.diagnosis.trial import Outcome
from embedkit.wording import list_words

PAIR = ("torch", "torchaudio")
"""Of these only certain pairs load together."""
TOGETHER = (*PAIR, "transformers")
UNASKED = ("torchvision",)
"""What transformers imports wherever it is installed, and embedkit does not need."""


def library_rows(project: Project, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """Describe each distribution that embedkit needs, and whether torch, torchaudio and transformers load together."""
    commands = mending_commands(project)
    unasked = [Requirement(name) for name in UNASKED if name in outcomes]
    rows = [_library_row(one, outcomes[one.name], commands) for one in (*project.required, *unasked)]
    last = max(index for index, row in enumerate(rows) if row.name in TOGETHER)
    rows.insert(last + 1, _together_row(outcomes, commands))
    return rows


def mending_commands(project: Project) -> dict[str, str]:
    """Return, for each library, what installs it so that it works, or removes it where embedkit does not need it."""
    pair = [one for one in project.required if one.name in PAIR]
    commands = {one.name: _mending_command(pair if one in pair else [one]) for one in project.required}
    return commands | {name: f"{installer()} uninstall -y {name}" for name in UNASKED}


def _library_row(requirement: Requirement, outcome: Outcome, commands: Mapping[str, str]) -> Row:
    name, expected = requirement.name, _expected(requirement)
    version = installed_version(name) or outcome.facts.get("version")
    facts = {"version": version, "expected": expected, "seconds": outcome.seconds, "reason": outcome.reason}
    row = Row(section="libraries", name=name, found=version or "version unknown", facts=facts)
    if outcome.missing and version is None:
        problem = f"{name} is not installed, and embedkit needs it."
        return replace(row, found="not installed", state="broken", problem=problem, command=commands[name])
    if outcome.reason is not None:
        return replace(
            row,
            found=f"{row.found}, does not load" if outcome.needs is None else f"{row.found}, needs {outcome.needs}",
            state="broken",
            problem=f"{_tell_failure(name, version, outcome)}.",
            command=commands.get(outcome.needs or name, commands[name]),
        )
    if version is not None and not requirement.specifier.contains(version, prereleases=True):
        return replace(
            row,
            found=f"{version}, expected {expected}",
            state="note",
            problem=f"{name} {version} loads, but embedkit is made for {expected}.",
            command=commands[name],
        )
    return row


def _together_row(outcomes: Mapping[str, Outcome], commands: Mapping[str, str]) -> Row:
    failed = [name for name in TOGETHER if outcomes[name].reason is not None]
    facts = {"together": not failed, "failed": failed}
    row = Row(section="libraries", name="load together", found=f"{list_words(TOGETHER)} do", facts=facts)
    if not failed:
        return row
    without = failed == ["torchaudio"]
    return replace(
        row,
        found="no: torch and transformers without torchaudio" if without else "no",
        state="broken",
        problem="torch and transformers load together if torchaudio is left out."
        if without
        else f"{list_words(TOGETHER)} do not load together.",
        command=commands[outcomes[failed[0]].needs or failed[0]],
    )


def extra_rows(project: Project, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """Describe each extra: the versions of its distributions, and what is missing, too old or does not load."""
    commands = mending_commands(project)
    return [_extra_row(project, extra, outcomes, commands) for extra in project.extras]


def _extra_row(project: Project, extra: str, outcomes: Mapping[str, Outcome], commands: Mapping[str, str]) -> Row:
    parts = project.extras[extra]
    versions = {one.name: installed_version(one.name) for one in parts}
    there = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    reasons = {one.name: outcomes[one.name].reason for one in parts if one.name in outcomes}
    row = Row(
        section="extras",
        name=extra,
        found=there,
        command=project.install_command(extra),
        facts={"versions": versions, "expected": {one.name: _expected(one) for one in parts}, "reasons": reasons},
    )
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        found = f"{there}; without {', '.join(missing)}" if there else f"not installed ({', '.join(missing)})"
        return replace(row, found=found, state="missing")
    wrong = [one for one in parts if not _fits(one)]
    if wrong:
        problem = list_words(
            f"{one.name} {versions[one.name]} is installed, expected {_expected(one)}" for one in wrong
        )
        return replace(
            row,
            found=f"{there}, expected {', '.join(f'{one.name}{_expected(one)}' for one in wrong)}",
            state="broken",
            problem=f"The extra {extra!r} does not work: {problem}.",
        )
    failed = [one for one in parts if reasons[one.name] is not None]
    if not failed:
        return replace(row, command=None)
    problem = "; ".join(_tell_failure(one.name, versions[one.name], outcomes[one.name]) for one in failed)
    needs = outcomes[failed[0].name].needs
    return replace(
        row,
        found=f"{there}; broken: {', '.join(one.name for one in failed)}",
        state="broken",
        problem=f"The extra {extra!r} does not work: {problem}.",
        command=commands.get(needs or "", _mending_command(failed)),
    )


def _tell_failure(name: str, version: str | None, outcome: Outcome) -> str:
    what = " ".join(filter(None, (name, version)))
    return f"{what} does not load: {outcome.reason}" if outcome.needs is None else f"{what} {outcome.reason}"


def _expected(requirement: Requirement) -> str:
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def _fits(requirement: Requirement) -> bool:
    version = installed_version(requirement.name)
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def _mending_command(requirements: Sequence[Requirement]) -> str:
    """Return what installs distributions; what fits already is replaced only by force.

    With torch come libraries of CUDA, which may be what is broken.
    """
    again = " --force-reinstall" if all(map(_fits, requirements)) else ""
    alone = " --no-deps" if again and requirements[0].name not in PAIR else ""
    names = " ".join(f"'{one.name}{_expected(one)}'" for one in requirements)
    return f"{installer()} install{again}{alone} {names}"
