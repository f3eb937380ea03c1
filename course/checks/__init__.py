"""The checks of the exercises, a file for each page with its ``CHECKS``; see :mod:`course.exercises`."""
