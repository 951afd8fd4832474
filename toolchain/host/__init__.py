"""The computer that a command runs on: its memory, files, programs and packages."""
