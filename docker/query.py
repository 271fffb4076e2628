"""The command of the query image: only the verbs that ask, from the search package alone."""

import sys

from search.cli.main import run

if __name__ == "__main__":
    run(sys.argv[1:])
