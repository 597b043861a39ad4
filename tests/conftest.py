"""What all tests share: drawing without a screen."""

import matplotlib

matplotlib.use("Agg")
