"""What can go wrong with this engine alone."""

from __future__ import annotations

from engines.render.errors import RenderError


class NoModel(RenderError):
    """There is no trained transformer to sample from. Trying again cannot help until there is one."""

    code = "no_model"

    def __init__(self, wanted: str, cause: str) -> None:
        self.wanted = wanted
        self.cause = cause
        super().__init__(wanted, cause)

    def details(self) -> dict[str, object]:
        """The engine as asked for, and why it has no model."""
        return {"wanted": self.wanted, "cause": self.cause}

    def sentence(self) -> str:
        """What was expected, what came, what to do."""
        return (
            f"engine {self.wanted}: expected a checkpoint of a diffusion_transformer, got none: {self.cause}. "
            "Train one, and name its folder in OVERSPILL_DIT_CHECKPOINT, or its job's id as dit:<id> below "
            "OVERSPILL_DIT_CHECKPOINTS."
        )
