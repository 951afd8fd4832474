"""How close each stage is to the float32 checkpoint, and where it leaves the path."""
