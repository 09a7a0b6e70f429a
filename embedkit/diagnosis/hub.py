"""The Hugging Face cache: where it is, which encoders lie there, and whether others may be fetched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from embedkit.diagnosis.rows import Row
from embedkit.diagnosis.trial import Outcome
from embedkit.encoders.published import PUBLISHED
from embedkit.wording import format_bytes, list_words

OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_SHORT = 8


def hub_rows(outcome: Outcome) -> list[Row]:
    """Describe the cache, the token, and each encoder that has a name.

    Args:
        outcome: Of the step `cache`.
    """
    offline = [name for name in OFFLINE if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")]
    rows = [
        Row(
            section="hub",
            name="downloads",
            found=f"off: {list_words(offline)} set" if offline else "on",
            facts={"offline": offline, "endpoint_set": bool(os.environ.get("HF_ENDPOINT"))},
        )
    ]
    if outcome.reason is not None:
        row = Row(section="hub", name="cache", found="unknown")
        if outcome.needs is None:
            problem = f"The Hub cache cannot be looked at: {outcome.reason}."
            row = replace(row, state="broken", problem=problem, command="export HF_HOME=FOLDER")
        return [*rows, row]
    facts = outcome.facts
    rows += [
        _cache_row(facts),
        Row(
            section="hub",
            name="token",
            found="there" if facts["token"] else "none; only gated repositories need one",
            facts={"there": facts["token"]},
        ),
    ]
    return rows + [_encoder_row(name, facts["encoders"][name], may_fetch=not offline) for name in PUBLISHED]


def _cache_row(facts: Mapping[str, Any]) -> Row:
    known = {key: facts[key] for key in ("path", "exists", "writable", "size_bytes", "size_is_complete")}
    size = f"{'' if facts['size_is_complete'] else 'more than '}{format_bytes(facts['size_bytes'])}"
    found = f"{facts['path']}, {size if facts['exists'] else 'not there yet'}"
    if facts["writable"]:
        return Row(section="hub", name="cache", found=found, facts=known)
    return Row(
        section="hub",
        name="cache",
        found=f"{found}, not writable",
        state="note",
        problem="The Hub cache is not writable: what it holds can be used, nothing can be fetched.",
        command="export HF_HOME=FOLDER",
        facts=known,
    )


def _encoder_row(name: str, here: Mapping[str, Any], *, may_fetch: bool) -> Row:
    repository, _, pinned = PUBLISHED[name].partition("@")
    revisions = here["revisions"]
    others = [commit for commit, whole in revisions.items() if whole and commit != pinned]
    facts = {"repository": repository, "pinned": pinned, "whole": revisions.get(pinned, False), "others": others}
    fetch = f"{'' if may_fetch else 'HF_HUB_OFFLINE=0 TRANSFORMERS_OFFLINE=0 '}embedkit extract --encoder {name}"

    def describe(found: str, **more: Any) -> Row:
        return Row(section="encoders", name=name, found=found, facts=facts, **more)

    if facts["whole"]:
        return describe(f"at {pinned[:_SHORT]}, the pinned revision")
    if others and not pinned:
        return describe(f"at {list_words(commit[:_SHORT] for commit in others)}, from the main branch")
    if others:
        found = f"at {list_words(commit[:_SHORT] for commit in others)}, pinned is {pinned[:_SHORT]}"
        problem = f"The encoder {name!r} lies in the cache {found}: the pinned revision has to be fetched."
        return describe(found, state="note", problem=problem, command=fetch)
    if revisions or here["unfinished"]:
        problem = f"The encoder {name!r} is only partly in the cache; the download goes on where it stopped."
        return describe("downloaded in part", state="note", problem=problem, command=fetch)
    return describe("not in the cache", state="missing")
