"""Putting an exported folder on the hub.

Source: https://huggingface.co/docs/huggingface_hub. The library finds the token that `hf auth login` left, or
`$HF_TOKEN`, and the hub that `$HF_ENDPOINT` names.
"""

from __future__ import annotations

from pathlib import Path

from twoplayer.core.errors import UserError

ENDPOINT: str | None = None
"""Of the hub; the library's own when there is none."""


def pushed(folder: Path, repository: str) -> str:
    """Upload a folder as a private model; its address. Raises UserError.

    Args:
        folder: with a model card.
        repository: "ORG/NAME".
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=ENDPOINT)
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A generator of twoplayer"))
    except Exception as error:  # the library raises whatever its transport raises
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder} was written, but {repository} cannot be put on the hub ({words}); are you logged in "
            "(hf auth login), and is the network there?"
        ) from error
