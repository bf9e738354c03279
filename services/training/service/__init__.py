"""Use cases of training: experiments are asked for, planned, run and looked at."""
