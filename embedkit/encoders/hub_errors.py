"""What is said where the Hub does not give what was asked for: what was found, and what to do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from embedkit.encoders.download import BrokenTransferError
from embedkit.errors import EncoderError, RunError

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


@dataclass(frozen=True)
class Wanted:
    """What was asked of the Hub.

    Attributes:
        repository: `org/name`.
        revision: As asked for; None for the main branch.
        file: A file's name, or what it was.
        name: What the user called the encoder; empty for what is none.
        others: Commits of the repository that the cache holds.
        begun: Bytes of downloads that broke off.
    """

    repository: str
    revision: str | None
    file: str
    name: str = field(kw_only=True)
    others: Sequence[str] = field(kw_only=True)
    begun: int = field(kw_only=True)

    def __str__(self) -> str:
        at = f" at revision {self.revision!r}" if self.revision else ""
        return f"{self.file} of {self.repository!r}{at}"

    @property
    def address(self) -> str:
        """Where people look at the repository."""
        return f"{constants.ENDPOINT}/{self.repository}"


def explain(error: Exception, wanted: Wanted) -> EncoderError:
    """Turn an error of the Hub, the network or the disk into a sentence."""
    found, *todo = _explain_answer(error, wanted) or _explain_failure(error, wanted)
    if wanted.others:
        commit = wanted.others[0]
        how = "by --encoder" if wanted.name else "as"
        todo.append(f"take the revision that the cache holds {how} {wanted.repository}@{commit}")
    if not wanted.name:
        return EncoderError(f"{found}; {', or '.join(todo)}.")
    key = wanted.name if re.fullmatch(r"[\w-]+", wanted.name) else json.dumps(wanted.name)
    todo.append(f'name a local copy in embedkit.toml ([encoders] {key} = "path/to/folder")')
    todo.append("take an encoder that needs no weights (mfcc)")
    return EncoderError(f"{found}; {', or '.join(todo)}.")


def explain_push(error: Exception, repository: str) -> RunError:
    """Turn an error of the Hub or the network into a sentence, where a repository was to be written."""
    if isinstance(error, LocalTokenNotFoundError):
        return RunError(
            "There is no token to push with; make one that may write at https://huggingface.co/settings/tokens, and "
            "log in with `hf auth login` or set HF_TOKEN."
        )
    if _is_of_the_token(error):
        found = f"The Hub does not accept the token {_place_of_token()}"
        todo = "make a new one that may write, and log in with `hf auth login`"
    elif isinstance(error, HfHubHTTPError) and error.response.status_code in (403, 404):
        return explain_rights(repository, _reason(error))
    elif isinstance(error, HfHubHTTPError | ValueError):
        found = f"The Hub does not take what was pushed to {repository!r}"
        todo = "try again later" if isinstance(error, HfHubHTTPError) else "look at its README.md"
    elif isinstance(error, OfflineModeIsEnabled):
        found, todo = f"HF_HUB_OFFLINE forbids pushing to {repository!r}", "unset it"
    else:
        found, todo = f"The Hub cannot be reached to push to {repository!r}", "look at the network, and try again"
    return RunError(f"{found} ({_reason(error)}); {todo}.")


def explain_rights(repository: str, reason: str) -> RunError:
    """Say of which place the token is that may not write, and why."""
    return RunError(
        f"The token {_place_of_token()} may not write to {repository!r} ({reason}); take one that may, or name a "
        "repository of your own."
    )


def _explain_answer(error: Exception, wanted: Wanted) -> tuple[str, ...] | None:
    """Return what was found and what to do, where the Hub has answered."""
    token = get_token()
    if isinstance(error, GatedRepoError):
        account = f"with the account of the token {_place_of_token()}" if token else "and log in with `hf auth login`"
        return f"The repository {wanted.repository!r} is gated", f"accept its licence at {wanted.address} {account}"
    if token and _is_of_the_token(error):
        return (
            f"The Hub does not accept the token {_place_of_token()} ({_reason(error)})",
            "make a new one and log in with `hf auth login`",
            "remove it, as public repositories need none",
        )
    if isinstance(error, RepositoryNotFoundError):
        reader = f"with the token {_place_of_token()}" if token else "that can be read without logging in"
        return (
            f"There is neither a folder nor a Hugging Face repository {wanted.repository!r} {reader}",
            f"look for its new name at {wanted.address}",
            "log in with `hf auth login` if it is private",
        )
    if isinstance(error, RevisionNotFoundError):
        return (
            f"The Hugging Face repository {wanted.repository!r} has no revision {wanted.revision!r}",
            "name a branch, a tag or a commit of it",
        )
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 429 or status >= 500:
            return f"Cannot get {wanted}: the Hub answers {_reason(error)}", "try again later"
        return f"Cannot get {wanted}: the Hub answers {_reason(error)}", f"ask for access at {wanted.address}"
    return None


def _explain_failure(error: Exception, wanted: Wanted) -> tuple[str, ...]:
    """Return what was found and what to do, where the Hub has not answered, or the disk is to blame."""
    begun = f" but for {wanted.begun:,} bytes of a download that broke off" if wanted.begun else ""
    what = (
        f"Cannot get {wanted}{f' for the encoder {wanted.name!r}' if wanted.name else ''}: it is neither a local "
        f"folder, nor in the Hugging Face cache{begun}"
    )
    if isinstance(error, OfflineModeIsEnabled):
        return f"{what}, and HF_HUB_OFFLINE forbids asking the Hub", "unset it"
    if isinstance(error, BrokenTransferError):
        return f"Cannot get {wanted}: {error} ({_reason(error)})", "run the command again, which goes on from there"
    if isinstance(error, OSError) and error.filename:
        return f"Cannot write {wanted} to the Hugging Face cache ({error})", "let HF_HOME name another folder"
    return f"{what}, nor can the Hub be reached ({_reason(error)})", "look at the network"


def _is_of_the_token(error: Exception) -> bool:
    """Tell whether a token is to blame; one with letters that no header may hold is not even sent."""
    if isinstance(error, HfHubHTTPError):
        return bool(error.response.status_code == 401)
    return isinstance(error, UnicodeError)


def _place_of_token() -> str:
    variable = next((name for name in TOKEN_VARIABLES if os.environ.get(name)), None)
    return f"of the variable {variable}" if variable else f"in {constants.HF_TOKEN_PATH!r}"


def _reason(error: BaseException) -> str:
    """Return the first line of what went wrong in the end, without a token."""
    if isinstance(error, BrokenTransferError | LocalEntryNotFoundError) and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, HfHubHTTPError):
        said = error.response.headers.get("X-Error-Message") or error.response.reason_phrase
        text = f"{error.response.status_code} {said}"
    elif isinstance(error, UnicodeError):
        text = "it holds letters that no header may"
    else:
        text = "no answer in time" if "Timeout" in type(error).__name__ else str(error).strip() or type(error).__name__
    return text.splitlines()[0].strip().rstrip(".")
