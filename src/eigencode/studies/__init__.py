"""Studies: the papers as data, cells run by engines, results in a store, and claims measured again."""
