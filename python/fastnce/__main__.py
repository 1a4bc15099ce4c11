"""``fastnce``, or ``python -m fastnce``: the command line."""

from fastnce.word2vec._command import main

if __name__ == "__main__":
    raise SystemExit(main())
