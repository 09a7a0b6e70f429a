"""A Hugging Face repository at one commit: from the cache where it is in it, else from the Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from huggingface_hub import (
    _CACHED_NO_EXIST,
    HfApi,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import repo_folder_name

from embedkit.encoders.download import Blob, download
from embedkit.encoders.hub_errors import Wanted, explain
from embedkit.encoders.layout import (
    CONFIG_FILE,
    EMOTION2VEC_PUBLISHED,
    FUNASR_FILE,
    INDEX_ENDING,
    PREPROCESSOR_FILE,
    PROCESSOR_FILE,
    WEIGHT_FILES,
    Checkpoint,
    explain_foreign,
    read_settings,
    read_shards,
)
from embedkit.errors import EncoderError
from embedkit.libraries import muted
from embedkit.wording import list_some

CONNECTION_SECONDS = 5.0
"""How long the Hub may take to answer, unless HF_HUB_ETAG_TIMEOUT says otherwise."""

SHOWN_COMMITS = 2

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{4,39}")
_Answer = TypeVar("_Answer")


def find_snapshot(repository: str, revision: str | None, *, name: str) -> Checkpoint:
    """Find a repository's config.json, feature extractor's settings and weights; fetch what is not in the cache.

    Of emotion2vec's repositories, which have no config.json, the weights alone are wanted.

    Args:
        repository: `org/name`.
        revision: A commit, whole or its beginning, a branch or a tag; None for the main branch. A branch that is in
            the cache stands where it stood.
        name: What the user called the encoder, for messages.

    Raises:
        EncoderError: something is unavailable.
    """
    hub = _Repository(repository, name)
    commit = hub.find_commit(revision)
    if single := hub.find_emotion2vec(commit):
        return Checkpoint(folder=single.parent, source=repository, revision=commit, weights=single)
    config = hub.require(CONFIG_FILE, commit)
    hub.find_settings(commit)
    hub.find_weights(commit)
    return Checkpoint(folder=config.parent, source=repository, revision=commit)


def find_files(repository: str, revision: str | None, needed: Sequence[str], more: Sequence[str] = ()) -> Path:
    """Find some files of a repository; fetch what is not in the cache, and nothing else.

    Args:
        repository: `org/name`.
        revision: As for `find_snapshot`.
        needed: Files that it must have; the first of them leads to the commit.
        more: Files that it may have. An index stands for the files that it names.

    Returns:
        The folder of the commit, which is called as the commit is.

    Raises:
        EncoderError: something is unavailable.
    """
    hub = _Repository(repository, "")
    folder = hub.require(needed[0], revision).parent
    for file in needed[1:]:
        hub.require(file, folder.name)
    for file in more:
        path = hub.fetch(file, folder.name)
        if path is not None and file.endswith(INDEX_ENDING):
            for shard in read_shards(path):
                hub.require(str(PurePosixPath(file).with_name(shard)), folder.name)
    return folder


class _Repository:
    def __init__(self, repository: str, name: str) -> None:
        self.repository, self.name = repository, name
        stem = repo_folder_name(repo_id=repository, repo_type="model")
        self.cache = Path(constants.HF_HUB_CACHE) / stem
        self.locks = Path(constants.HF_HUB_CACHE) / ".locks" / stem

    def find_commit(self, revision: str | None) -> str:
        """Return the whole commit that a revision leads to."""
        if revision is not None and _COMMIT.fullmatch(revision):
            return revision
        for mark in (CONFIG_FILE, *EMOTION2VEC_PUBLISHED):
            if isinstance(known := self._look_up(mark, revision), str):
                return Path(known).parent.name
        short = revision if revision is not None and _SHORT_COMMIT.fullmatch(revision) else None
        if short and (commit := self._only(short, self._cached_commits())):
            return commit
        try:
            found = self.fetch(CONFIG_FILE, revision) or self.fetch(FUNASR_FILE, revision)
            return (found or self.require(CONFIG_FILE, revision)).parent.name
        except EncoderError as error:
            # The Hub itself knows whole commits only.
            if short is None or not isinstance(error.__cause__, RevisionNotFoundError):
                raise
            listed = self._answered(lambda: HfApi().list_repo_commits(self.repository), "the list of commits", None)
            if commit := self._only(short, [one.commit_id for one in listed]):
                return commit
            raise

    def find_emotion2vec(self, commit: str) -> Path | None:
        """Find emotion2vec's weights in a repository as its authors publish it; None in any other."""
        if isinstance(self._look_up(CONFIG_FILE, commit), str):
            return None
        for file in EMOTION2VEC_PUBLISHED:
            if isinstance(cached := self._look_up(file, commit), str):
                return Path(cached)
        # Others call their weights so, too: what would not be read is not fetched.
        if self.fetch(CONFIG_FILE, commit) or not self.fetch(FUNASR_FILE, commit):
            return None
        return next((path for file in EMOTION2VEC_PUBLISHED if (path := self.fetch(file, commit))), None)

    def find_settings(self, commit: str) -> None:
        """Find the feature extractor's settings, in one or the other file; a repository may have neither."""
        if not isinstance(self._look_up(PREPROCESSOR_FILE, commit), str) and not self._has_nested_settings(commit):
            self.fetch(PREPROCESSOR_FILE, commit)
            self.fetch(PROCESSOR_FILE, commit)

    def find_weights(self, commit: str) -> None:
        """Find the weights, in any form that lies in the cache, before the Hub is asked for another one."""
        files = [file for file in WEIGHT_FILES if isinstance(self._look_up(file, commit), str)]
        found = next((path for file in files or WEIGHT_FILES if (path := self.fetch(file, commit))), None)
        if found is None:
            self._refuse_foreign(commit)
            raise EncoderError(
                f"The repository {self.repository!r} holds no weights; expected one of {', '.join(WEIGHT_FILES)}."
            )
        if found.name.endswith(INDEX_ENDING):
            for shard in read_shards(found):
                self.require(shard, commit)

    def require(self, file: str, revision: str | None) -> Path:
        path = self.fetch(file, revision)
        if path is None:
            self._refuse_foreign(revision)
            owner = f" of the encoder {self.name!r}" if self.name else ""
            raise EncoderError(f"The repository {self.repository!r}{owner} holds no {file}.")
        return path

    def fetch(self, file: str, revision: str | None) -> Path | None:
        """Return the file's path, or None where the repository is known not to have it."""
        cached = self._look_up(file, revision)
        if cached is _CACHED_NO_EXIST:
            return None
        if isinstance(cached, str):
            return Path(cached)
        try:
            return self._answered(lambda: self._download(file, revision), file, revision)
        except EntryNotFoundError:
            return None

    def _download(self, file: str, revision: str | None) -> Path:
        url = hf_hub_url(self.repository, file, revision=revision)
        seconds = constants.HF_HUB_ETAG_TIMEOUT if "HF_HUB_ETAG_TIMEOUT" in os.environ else CONNECTION_SECONDS
        try:
            # Without this question the library would go on asking for half a minute where there is no network.
            answer = get_hf_file_metadata(url, timeout=seconds)
        except EntryNotFoundError:
            # The library notes in the cache that there is no such file.
            return Path(hf_hub_download(self.repository, file, revision=revision))
        if answer.etag:
            download(
                Blob(
                    file=file,
                    repository=self.repository,
                    url=url,
                    etag=answer.etag,
                    size=answer.size,
                    folder=self.cache,
                    lock=self.locks / f"{answer.etag}.lock",
                )
            )
        return Path(hf_hub_download(self.repository, file, revision=revision))

    def _refuse_foreign(self, revision: str | None) -> None:
        if foreign := explain_foreign(lambda file: self._holds(file, revision)):
            raise EncoderError(f"The repository {self.repository!r} {foreign}.")

    def _holds(self, file: str, revision: str | None) -> bool:
        """Tell whether the repository has a file, without fetching it; not where nobody can be asked."""
        if isinstance(self._look_up(file, revision), str):
            return True
        url = hf_hub_url(self.repository, file, revision=revision)
        try:
            self._answered(lambda: get_hf_file_metadata(url, timeout=CONNECTION_SECONDS), file, revision)
        except (EncoderError, EntryNotFoundError):
            return False
        return True

    def _look_up(self, file: str, revision: str | None) -> object:
        return try_to_load_from_cache(self.repository, file, revision=revision)

    def _has_nested_settings(self, commit: str) -> bool:
        path = self._look_up(PROCESSOR_FILE, commit)
        return isinstance(path, str) and read_settings(Path(path).parent) is not None

    def _cached_commits(self) -> list[str]:
        """Return the commits of which weights, and the config.json that they need, are in the cache."""
        folders = sorted(self.cache.glob("snapshots/*"))
        return [folder.name for folder in folders if _has_weights(folder)]

    def _only(self, short: str, commits: list[str]) -> str | None:
        found = [commit for commit in commits if commit.startswith(short)]
        if len(found) > 1:
            raise EncoderError(
                f"The revision {short!r} of {self.repository!r} is the beginning of {len(found)} commits "
                f"({list_some(found, SHOWN_COMMITS)}); write more of it."
            )
        return found[0] if found else None

    def _answered(self, ask: Callable[[], _Answer], file: str, revision: str | None) -> _Answer:
        try:
            with muted("huggingface_hub"):
                return ask()
        except EncoderError:
            raise
        # Networks, proxies and file systems fail in as many ways.
        except Exception as error:
            if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
                raise
            others = [commit for commit in self._cached_commits() if commit != revision]
            begun = sum(path.stat().st_size for path in self.cache.glob("blobs/*.incomplete"))
            wanted = Wanted(self.repository, revision, file, name=self.name, others=others, begun=begun)
            raise explain(error, wanted) from error


def _has_weights(snapshot: Path) -> bool:
    files = WEIGHT_FILES if (snapshot / CONFIG_FILE).is_file() else EMOTION2VEC_PUBLISHED
    return any((snapshot / file).is_file() for file in files)
