"""Real-time prospect scoring: one definition of attributes, everything else derived from it.

Read the modules in this order: ``attributes``, ``aggregation``, ``features``,
``training_set``, ``warehouse``, ``model``, ``evaluation``, ``plots``,
``signals``, ``server``, ``tunnel``; ``settings`` and ``errors`` serve them all.
"""

__version__ = "0.1.0"
