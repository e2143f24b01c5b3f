"""Where alerts go: one delivery attempt each, retry belongs to the outbox."""
