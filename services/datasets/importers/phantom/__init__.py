"""The phantom population: drawn chest X-rays of nobody, for trying and testing the suite.

A phantom is a drawing, not a model of disease: every finding and every demographic changes the
picture in a place and manner of its own, so that a generator's label control and a classifier's
AUROC mean something, and nothing learnt from it is a claim about people. In particular the five
race groups are told apart by the position of one block in the ruler-like frame: **an arbitrary
visual code, chosen because it resembles no feature of a human body.** Every image carries that
frame, so that no phantom can be taken for a radiograph.

Everything follows from (site, seed, patient, image): how many patients are drawn, or in which
batches, changes no pixel.
"""

from services.datasets.importers.phantom.drawing import draw
from services.datasets.importers.phantom.population import PhantomSample, population

__all__ = ["PhantomSample", "draw", "population"]
