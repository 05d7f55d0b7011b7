"""The whole run: power laws in many dimensions, shuffled epochs."""
