"""Trained weights of ``small`` and ``base``, and how they were made: see README.md."""
