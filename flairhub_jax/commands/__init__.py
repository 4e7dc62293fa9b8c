"""The menu of commands: flags in, library calls, report out."""
