"""`python -m lectr_extproc` is the `lectr` command."""

import sys

from lectr_extproc.cli import main

sys.exit(main())
