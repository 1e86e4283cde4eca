"""The demo website and the board of its current visitors."""
