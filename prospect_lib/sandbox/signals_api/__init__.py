"""The part of the Signals API that the SDK calls."""
