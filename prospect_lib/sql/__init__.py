"""From an attribute group to one SQL statement, for each dialect."""
