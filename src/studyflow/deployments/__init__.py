"""Studies as deployments of Prefect's, decided without importing it; see decision 7."""
