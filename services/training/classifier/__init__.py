"""The science of training: a classifier of findings from packed images. Knows no web, database,
object store or queue.
"""
