"""An exported folder as a repository on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from embedkit.encoders.hub_errors import explain_push, explain_rights
from embedkit.encoders.sources import is_repository
from embedkit.errors import ConfigError, RunError
from embedkit.export.predictor import DESCRIPTION_FILE
from embedkit.libraries import muted

_OURS = ("predictor.json", "embedkit.json", "*config.json", "*.index.json", "*.safetensors", "*.onnx", "*.onnx.data")
"""What exports write: those of an earlier one go when a later one comes."""
_ALWAYS = (".gitattributes", "README.md", "LICENSE")
"""What a repository may hold before anything was pushed to it."""
_Answer = TypeVar("_Answer")


def require_repository(repository: str, *, public: bool) -> None:
    """Refuse what cannot be pushed to, before anything is computed.

    Args:
        repository: `org/name`.
        public: Whether everybody may read it.

    Raises:
        ConfigError: it is no name of a repository.
        RunError: there is no token that the Hub takes, it may only read, the Hub cannot be reached, or the repository
            is there already and holds something else, or others may read it than should.
    """
    if not is_repository(repository) or "@" in repository or not _is_allowed(repository):
        raise ConfigError(f"--push is {repository!r}, expected ORG/NAME, a repository on the Hugging Face Hub.")
    api = HfApi()
    owner = _answered(repository, api.whoami)
    if ((owner.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise explain_rights(repository, "it may only read")
    try:
        known = _answered(repository, lambda: api.model_info(repository))
    except RunError as error:
        if isinstance(error.__cause__, RepositoryNotFoundError):
            return
        raise
    files = [one.rfilename for one in known.siblings or ()]
    if DESCRIPTION_FILE not in files and any(file not in _ALWAYS for file in files):
        raise RunError(f"The repository {repository!r} holds something else than an exported run; name another.")
    if not known.private and not public:
        raise RunError(f"Everybody may read the repository {repository!r}; give --public as well, or name another.")
    if known.private and public:
        raise RunError(
            f"The repository {repository!r} is private, and --public does not change what is there; make it public at "
            f"{api.endpoint}/{repository}/settings, or leave --public out."
        )


def push_folder(folder: Path, repository: str, *, public: bool) -> str:
    """Make the repository where it is missing, for its owners alone unless `public`, and commit a folder to it.

    Returns:
        What `predict` takes: the repository at the commit.

    Raises:
        RunError: the Hub does not take it.
    """
    api = HfApi()
    _answered(repository, lambda: api.create_repo(repository, private=not public, exist_ok=True))
    commit = _answered(
        repository,
        lambda: api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            delete_patterns=list(_OURS),
            commit_message="Export by embedkit",
        ),
    )
    return f"{repository}@{commit.oid}"


def _is_allowed(repository: str) -> bool:
    """Tell whether the Hub's own rules on lengths, dots and hyphens allow a name."""
    try:
        validate_repo_id(repository)
    except HFValidationError:
        return False
    return True


def _answered(repository: str, ask: Callable[[], _Answer]) -> _Answer:
    try:
        with muted("huggingface_hub"):
            return ask()
    # Networks, proxies and servers fail in as many ways.
    except Exception as error:
        raise explain_push(error, repository) from error
