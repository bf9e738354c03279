"""The conditional diffusion model: schedule, network, training, samplers, checkpoints.

Pure science over arrays, files and conditions; it knows no project, job, database or web.
"""
