"""The targets that come with mobilesam-export: one TOML file each."""
