"""Checkpoints of the authors' package (Mediffusion 0.7, PyTorch Lightning), read without it.

Nothing of such a file is trusted: it may be a pickle somebody prepared. `file` reads it and runs
nothing, `configuration` finds out which network it is, `weights` brings its tensors into ours.
"""

from services.generation.diffusion.mediffusion.importing import import_checkpoint

__all__ = ["import_checkpoint"]
