"""`python -m ganglion.engine`: the same as the command `ganglion`."""

from ganglion.engine.cli import main

if __name__ == "__main__":
    main()
