"""The folder that is handed to an app developer: manifest, README, golden vectors."""
