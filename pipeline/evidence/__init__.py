"""Evidence: everything that is kept of one lodgment, in one signed ZIP that anybody can check; see docs/evidence.md.

packing     writes it from the ledger          container   reads a ZIP that nobody vouches for
records     what the ledger knows, as JSON     checking    what holds and what does not
manifest    the list of it all                 messages    what the signatures in it prove
signing     the operator's signature
"""
