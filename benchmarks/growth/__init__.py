"""How Penstock's costs grow: with the queue, the width, the chain, the nodes, the slots."""
