"""Pictures for notebooks and reports."""
