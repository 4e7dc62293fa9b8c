"""Names of other code bases for our parameters, both ways."""
