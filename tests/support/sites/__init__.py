"""Four websites that are not the demo's: their problem files, their events and a live visit."""
