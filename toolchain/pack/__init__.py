"""A tar with all that a box without a network needs, and the program that installs it there."""
