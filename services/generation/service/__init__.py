"""Use cases of generation: what people order, and what workers do about it."""

from services.generation.service.generations import Generations
from services.generation.service.generators import Generators
from services.generation.service.importing import IMPORT, Importing
from services.generation.service.imports import Imports
from services.generation.service.keeping import GENERATION, GENERATOR, KEPT, Scratch, naming
from services.generation.service.rendering import RENDER, Rendering
from services.generation.service.screening import SCREEN
from services.generation.service.training import TRAIN, Training

__all__ = [
    "GENERATION",
    "GENERATOR",
    "IMPORT",
    "KEPT",
    "RENDER",
    "SCREEN",
    "TRAIN",
    "Generations",
    "Generators",
    "Importing",
    "Imports",
    "Rendering",
    "Scratch",
    "Training",
    "naming",
]
