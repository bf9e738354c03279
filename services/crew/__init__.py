"""What every service that trains shares: processes that train together, one a GPU, beside the
worker that started them, and the optimiser Lion.

Knows processes, how they meet and how weights move; nothing of what they learn.
"""
