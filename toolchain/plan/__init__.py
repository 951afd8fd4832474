"""What a model will take and how fast it can be, before any work."""
