"""Git by pygit2: bare clones, trees, packs, pushes whose result is read."""
