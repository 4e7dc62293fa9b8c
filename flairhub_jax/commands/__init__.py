"""Commands: they parse flags, call the library and print the results."""
