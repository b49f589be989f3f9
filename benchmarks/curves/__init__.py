"""Learning curves: how well they are forecast, and what that saves."""
