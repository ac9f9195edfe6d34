"""What the catalog finds on a machine: made-up programs on PATH, checkouts of neo.mjs, an installed chromadb."""
