"""What runs on the box before anything is installed there: the standard library alone."""
