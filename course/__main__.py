"""``python -m course``: the commands of the course."""

import sys
from functools import partial

from srlib.commands import dispatch

COMMANDS = {
    "run": ("course.run", "execute the pages and write a report"),
    "author": ("course.authoring", "execute the committed pages in place, or make a run a reference"),
    "site": ("course.site", "render executed pages as a site that needs no network"),
    "exercises": ("course.pages", "write the pages as work sheets without solutions"),
    "doctor": ("course.doctor", "check whether the course will run on this machine"),
}
main = partial(dispatch, "course", "A course on single-image super-resolution.", COMMANDS)

if __name__ == "__main__":
    sys.exit(main())
