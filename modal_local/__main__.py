"""`python -m modal_local`."""

from modal_local.cli import main

if __name__ == "__main__":
    main()
