"""One module per library, each with a class `Peer`; a module is imported only by the worker that hosts it."""
