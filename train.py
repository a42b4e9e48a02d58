"""The door: ``python train.py fit -c stage1.yaml``, and likewise ``validate`` and ``test``."""

from isthmus.cli import train

if __name__ == "__main__":
    train()
