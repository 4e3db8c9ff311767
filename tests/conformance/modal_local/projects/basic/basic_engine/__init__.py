"""What the app's functions do; a package beside the app's, as engines beside modal_apps."""

VERSION = "one"


def double(number: int) -> int:
    return 2 * number
