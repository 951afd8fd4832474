"""Ascend chips through pyACL, the Python package `acl` that CANN brings."""
