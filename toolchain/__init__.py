"""The command line and the compiler: the only place that sees every part."""
