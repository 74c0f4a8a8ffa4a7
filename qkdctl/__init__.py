"""The daemon, its command line, control API and configuration."""

__version__ = "0.1.0"
