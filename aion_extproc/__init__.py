"""aion-extproc: model choice in proportion to the task, inside Envoy."""

__version__ = "0.1.0"
