"""The HDF5 store: write it whole, read it fast, verify every byte. The format is docs/store-format.md."""

from embedkit.store.reader import Store, open_store
from embedkit.store.verify import Damage, find_damage
from embedkit.store.writer import StoreContent, UtteranceEmbedding, write_store

__all__ = ["Damage", "Store", "StoreContent", "UtteranceEmbedding", "find_damage", "open_store", "write_store"]
