"""Robotouille: a cooking robot in kitchens of text, with an optimal planner."""

from agentrl.envs.robotouille.env import Robotouille

__all__ = ["Robotouille"]
