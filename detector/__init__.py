"""The keywatch service: sources, decoding, the fold, sinks, stores and the command line."""
