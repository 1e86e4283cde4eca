"""The Signals API: registry, online attributes, interventions and rules."""
