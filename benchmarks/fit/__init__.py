"""How the shipped trees of ``models.combination`` were made; see ``__main__``."""
