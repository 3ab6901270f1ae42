"""Keys of a result that are left out where there is nothing to say."""


def is_none(value: object) -> bool:
    """Return whether a field is left out of the JSON object: ``Field(default=None, exclude_if=is_none)``."""
    return value is None


def is_empty(value: object) -> bool:
    """Return whether a field is left out: ``Field(default=(), exclude_if=is_empty)``."""
    return value in ((), {})


def is_false(value: object) -> bool:
    """Return whether a field is left out: ``Field(default=False, exclude_if=is_false)``."""
    return value is False
