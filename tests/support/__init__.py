"""What the tests stand on: servers that misbehave on purpose, and a terminal to run the program in."""

__all__: list[str] = []
