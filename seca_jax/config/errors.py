"""What bad input is told with."""


class ConfigError(ValueError):
    """Bad input; the message is one line that says what is wrong and what would be right."""
