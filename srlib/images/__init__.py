"""Colour spaces, tasks, and how HR becomes LR and is enlarged again."""
