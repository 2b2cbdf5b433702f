"""The one exception that means: the user's input is at fault, and here is what to do."""


class InputError(ValueError):
    """Input that cannot be used. The message names the file, the field and the remedy.

    Example:
        >>> try:
        ...     raise InputError("gt.txt, line 3: 5 fields; give 6")
        ... except ValueError as fault:
        ...     print(fault)
        gt.txt, line 3: 5 fields; give 6
    """
