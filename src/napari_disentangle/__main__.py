"""``python -m napari_disentangle``: the command line, also for torchrun and srun."""

from __future__ import annotations

import sys

from napari_disentangle.cli import main

if __name__ == "__main__":
    sys.exit(main())
