"""The one exception that users are meant to read, and the one condition that is told by words alone."""


class InputError(Exception):
    """Bad input or a refused action, told in one plain sentence.

    The message names the file, says what is wrong and what to do. The command line prints it to standard error and
    exits with status 1; the window shows it as a notification. Anything else that is raised is a bug.
    """


class OutOfMemoryError(InputError):
    """Memory ran out: the input may be right, and the same may end well on another machine."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether Python, the CPU's allocator or a GPU says that there is no memory left."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words
