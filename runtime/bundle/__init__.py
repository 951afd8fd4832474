"""Bundles: the contract between export, compile and run, its reader and its writer."""
