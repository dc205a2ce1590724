"""``python -m agentrl`` is ``agentrl``."""

from agentrl.cli import main

if __name__ == "__main__":
    main()
