"""`python -m overspill.cli`: the command, where it is not installed."""

from overspill.cli import main

if __name__ == "__main__":
    main()
