"""What ATC and a chip refuse, checked before ATC is started: one rule per function."""
