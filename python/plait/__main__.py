"""``python -m plait`` is ``plait``."""

from .cli import main

if __name__ == "__main__":
    main()
