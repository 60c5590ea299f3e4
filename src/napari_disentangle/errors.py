"""The one exception that users are meant to read."""


class InputError(Exception):
    """Bad input or a refused action, told in one plain sentence.

    The message names the file, says what is wrong and what to do. The command line prints it to standard error and
    exits with status 1; the window shows it as a notification. Anything else that is raised is a bug.
    """
