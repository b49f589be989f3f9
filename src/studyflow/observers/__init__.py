"""Observers of a study's events: the base class, and messages to a webhook."""
