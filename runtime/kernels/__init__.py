"""Matrix products of our own for the CPU: a small library in C++, and how it is built and found."""
