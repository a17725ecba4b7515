"""The arguments of `push`."""

from __future__ import annotations

from dataclasses import dataclass

from mebert.errors import UserError
from mebert.sharing.upload import check_licence, check_repo
from mebert.storage.paths import check_output


@dataclass
class push:
    """Put a model on the Hugging Face Hub, with a model card written from what its run knows.

    The model folder and the card with its curve are uploaded as one commit; an export for ONNX Runtime goes into the
    folder onnx. Checkpoints, the outputs of test rows, the configuration and paths of this machine stay here, and no
    text of the data gets into the card. It needs a token with write access: hf auth login, or HF_TOKEN.

    Args:
        model: A run or a model folder.
        repo: user/name on the Hub; it is made if it is missing.
        private: Whether only its owner may see it.
        license: The model's licence, as the Hub names it, such as apache-2.0; null: the card has a line to fill in.
        onnx: The folder of an export of this model; null: where `export` writes it without --out, if there is one.
        update: Replace what the repository holds, its card included.
        out: Write what would be uploaded into this new folder, and upload nothing.
    """

    model: str | None = None
    repo: str | None = None
    private: bool = False
    license: str | None = None
    onnx: str | None = None
    update: bool = False
    out: str | None = None

    def __post_init__(self) -> None:
        if self.model is None or self.repo is None:
            what = "model" if self.model is None else "repo"
            raise UserError(f"{what} is missing: give a run and a name on the Hub, such as push RUN user/name")
        check_repo(self.repo)
        check_licence(self.license)
        if self.out is not None:
            check_output("out", self.out, folder=True)
