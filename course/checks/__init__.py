"""The checks of the exercises, a file for each page and a name for each check; see :mod:`course.exercises`."""
