"""Passages by query: BM25 in this process over a memory-mapped index, or a server that speaks Search-R1's JSON.

store = Store.build(documents)                   # in memory; documents: Document(id, contents)
store = Store.of_file(Path("corpus.jsonl"), Path("outputs/indexes"))  # indexed once, then memory-mapped
remote = Remote("http://127.0.0.1:8000", timeout_s=10.0, retries=3)
hits = store.search(["who wrote Mask of Brilo"], 3)[0]           # Hit(document, score), best first
"""

from agentrl.retrieval.base import Document, Hit, Retriever
from agentrl.retrieval.client import Remote
from agentrl.retrieval.corpus import read_corpus, read_lines
from agentrl.retrieval.store import Store

__all__ = ["Document", "Hit", "Remote", "Retriever", "Store", "read_corpus", "read_lines"]
