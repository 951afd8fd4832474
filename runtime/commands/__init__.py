"""One module per command of the runtime, each with a function `command`."""
