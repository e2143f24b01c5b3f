"""Where records come from, behind the Source port."""
