"""The servers of Prefect and MLflow as this machine finds them, before either is imported."""
