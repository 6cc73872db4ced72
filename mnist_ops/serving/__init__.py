"""What is served over HTTP, inside Airflow or alone."""
