"""From a repo of the Hub to a folder: all files of one commit, whole, as they were promised.

`huggingface_hub` transfers, resumes and caches; what it has fetched is checked here against the
hash that the Hub promised for it, once per file. Knows nothing of what files mean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, snapshot_download

from langgraph_switch.engines.load_errors import load_failures
from langgraph_switch.errors import ModelLoadError

RepoType = Literal["model", "dataset"]

TOKENIZER_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
MODEL_FILES = (*TOKENIZER_FILES, "model.safetensors", "model-*.safetensors")
CODE_FILES = ("*.py",)
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_OID = re.compile(r"[0-9a-f]{40}")
_CHUNK_BYTES = 2**20


def fetch_repo(
    repo_id: str,
    files: Sequence[str],
    *,
    revision: str | None = None,
    repo_type: RepoType = "model",
    token: str | None = None,
) -> Path:
    """Return a folder with the files of a repo that match; what is cached is not fetched again.

    A revision is resolved to its commit first, and every file is that commit's.

    Args:
        repo_id: `user/name`.
        files: Patterns of paths inside the repo.
        revision: Branch, tag or commit; the main branch by default.
        repo_type: What kind of repo.
        token: Overrides what `hf auth login` has stored.

    Raises:
        ModelLoadError: The repo cannot be had, or a file is not what the Hub promised; says why
            and what to do.
    """
    with load_failures(repo_id, revision):
        folder = snapshot_download(
            repo_id,
            revision=revision,
            repo_type=repo_type,
            token=token,
            allow_patterns=list(files),
        )
    verify_snapshot(Path(folder), repo_id)
    return Path(folder)


def verify_snapshot(folder: Path, repo_id: str) -> None:
    """Check files against their hashes; each is read once, then its mark is trusted.

    In the Hub's cache a file is a link to a blob that is named by the hash the Hub promised:
    SHA-256 for large files, git's object id for others. The client checks sizes alone. Where the
    cache has no links (some Windows machines) there is nothing to check against.

    Raises:
        ModelLoadError: A file is not what was promised. It is removed, so that the next try
            fetches it again.
    """
    for file in sorted(folder.rglob("*")):
        if not file.is_symlink():
            continue
        blob = file.resolve()
        mark = _mark(blob)
        if mark.is_file():
            continue
        if not _is_as_promised(blob):
            blob.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
            raise ModelLoadError(
                repo_id,
                f"{file.relative_to(folder).as_posix()} arrived damaged: its content is not what "
                "the Hub promised.",
                hint="try again: it was removed and will be fetched anew",
                retryable=True,
            )
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _mark(blob: Path) -> Path:
    """Return the empty file that says that a blob was checked, as it is now."""
    found = blob.stat()
    name = f"{blob.name}-{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
    return Path(constants.HF_HOME) / "langgraph-switch" / "checked" / name


def _is_as_promised(blob: Path) -> bool:
    promised = blob.name
    if _SHA256.fullmatch(promised):
        digest = hashlib.sha256()
    elif _GIT_OID.fullmatch(promised):
        digest = hashlib.sha1(b"blob %d\0" % blob.stat().st_size)  # noqa: S324 - git's own
    else:
        return True  # Not the Hub's own storage: its tag is no hash.
    with blob.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == promised
