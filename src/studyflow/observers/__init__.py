"""Who hears of a study's events: the protocol, and messages to a webhook."""
