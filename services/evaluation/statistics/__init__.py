"""AUROC, its uncertainty over patients and training seeds, and the tests built on it.

Everything follows from one object: the influence of each patient on an AUROC. Knows numpy and
scipy; knows no web, database, queue or file.
"""
