"""WebShop: a shop of text pages, over a generated catalogue or the official products."""

from agentrl.envs.webshop.env import WebShop

__all__ = ["WebShop"]
