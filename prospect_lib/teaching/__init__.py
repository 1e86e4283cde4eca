"""What the notebooks share: the followed visitor, exercises, replay."""
