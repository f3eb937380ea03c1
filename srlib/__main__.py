import sys

from srlib.commands import main

sys.exit(main())
