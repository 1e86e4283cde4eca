"""The demo website and the board."""
