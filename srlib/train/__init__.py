"""The config, the loop, its callbacks, optimisers, losses, checkpoints, and the cache of experiments."""
